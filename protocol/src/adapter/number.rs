//! Numbers and dates as JavaScript's `JSON.stringify` writes them.

use std::io::Write;

/// The largest time a JavaScript date can hold, in milliseconds either side of 1970.
const DATE_MS_MAX: f64 = 8.64e15;
const DAY_MS: i64 = 86_400_000;
/// Integers below are exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends a number; what is none (NaN, infinite) is `null`.
pub(super) fn write_number(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        return out.extend_from_slice(b"null");
    }
    if number.fract() == 0.0 && number.abs() < EXACT_MAX {
        let _ = write!(out, "{}", number as i64); // -0 is 0
        return;
    }
    if number < 0.0 {
        out.push(b'-');
    }
    // The shortest digits that read back as this number, which is what JavaScript prints too.
    let shortest = format!("{:e}", number.abs());
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = digits.chars().filter(|digit| *digit != '.').collect();
    place(out, &digits, exponent.parse().unwrap_or(0) + 1);
}

/// Digits and where the point stands among them (ECMA-262, `Number::toString`).
fn place(out: &mut Vec<u8>, digits: &str, point: i32) {
    let count = digits.len() as i32;
    let zeros = |count: i32| "0".repeat(count.max(0) as usize);
    // Writing to a `Vec` cannot fail.
    let _ = match point {
        _ if count <= point && point <= 21 => write!(out, "{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, rest) = digits.split_at(point as usize);
            write!(out, "{whole}.{rest}")
        }
        -5..=0 => write!(out, "0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            write!(out, "{first}{dot}{rest}e{:+}", point - 1)
        }
    };
}

/// Appends a date as `Date.prototype.toJSON` does: a string, or `null` if there is no such day.
pub(super) fn write_date(out: &mut Vec<u8>, ms: f64) {
    if !ms.is_finite() || ms.abs() > DATE_MS_MAX {
        return out.extend_from_slice(b"null");
    }
    let ms = ms as i64;
    let (days, rest) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    // Writing to a `Vec` cannot fail.
    let _ = match year {
        0..=9999 => write!(out, "\"{year:04}"),
        _ => write!(out, "\"{year:+07}"),
    };
    let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
    let (seconds, ms) = (rest / 1000 % 60, rest % 1000);
    let _ = write!(out, "-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z\"");
}

/// Year, month and day of a day since 1970, in the Gregorian calendar reckoned backwards. Years
/// begin in March here, so that a leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097; // 400 years
    let since = days + 719_468; // 0000-03-01
    let (era, day) = (since.div_euclid(ERA_DAYS), since.rem_euclid(ERA_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(number: f64) -> String {
        let mut out = Vec::new();
        write_number(&mut out, number);
        String::from_utf8(out).expect("ASCII")
    }

    fn date(ms: f64) -> String {
        let mut out = Vec::new();
        write_date(&mut out, ms);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn numbers_are_printed_as_in_javascript() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (123.456, "123.456"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (18_446_744_073_709_551_615.0, "18446744073709552000"),
            (-9_223_372_036_854_775_808.0, "-9223372036854776000"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn dates_are_printed_as_in_javascript() {
        for (ms, text) in [
            (0.0, "\"1970-01-01T00:00:00.000Z\""),
            (1_700_000_000_000.0, "\"2023-11-14T22:13:20.000Z\""),
            (951_782_400_123.9, "\"2000-02-29T00:00:00.123Z\""),
            (-1.0, "\"1969-12-31T23:59:59.999Z\""),
            (-62_167_219_200_001.0, "\"-000001-12-31T23:59:59.999Z\""),
            (8.64e15, "\"+275760-09-13T00:00:00.000Z\""),
            (-8.64e15, "\"-271821-04-20T00:00:00.000Z\""),
            (8.64e15 + 2.0, "null"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(date(ms), text);
        }
    }

    proptest! {
        #[test]
        fn any_number_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            let text = number(value);
            match value.is_finite() {
                true => prop_assert_eq!(text.parse::<f64>().expect("a number"), value),
                false => prop_assert_eq!(text, "null"),
            }
        }
    }
}
