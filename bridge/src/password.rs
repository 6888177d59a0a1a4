//! Room passwords: argon2id hashes in PHC format.

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};

/// Hashes a password with a salt of its own. Takes some ten milliseconds, on purpose.
///
/// # Errors
/// When the system has no random numbers.
pub fn hash(password: &str) -> Result<Box<str>, String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string().into()).map_err(|error| error.to_string())
}

/// Whether a password fits a hash. As slow.
pub fn is_right(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_fits() {
        let hashed = hash("secret").expect("random numbers");
        assert!(hashed.starts_with("$argon2id$") && !hashed.contains("secret"));
        assert_ne!(hash("secret").expect("random numbers"), hashed, "the salt differs");
        assert!(is_right("secret", &hashed));
        for wrong in ["Secret", "", "secret ", "x"] {
            assert!(!is_right(wrong, &hashed), "{wrong}");
        }
        assert!(!is_right("secret", "no hash"));
    }
}
