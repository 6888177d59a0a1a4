//! A table by slot: what somebody keeps for each connection of a ring.
//!
//! Grows and shrinks in chunks that never move, so that a table of a million rows costs what its
//! used part costs, nothing is copied while it grows, and memory comes back when connections go.

/// Rows per chunk; slots in use lie close together, since the kernel fills gaps first.
const CHUNK: usize = 64;

/// A row per slot. Rows that nobody has asked for are `T::default()`, and may not exist.
#[derive(Debug)]
pub struct BySlot<T> {
    chunks: Vec<Option<Box<[T]>>>,
}

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Default> BySlot<T> {
    /// The row, if its chunk exists.
    pub fn get(&self, slot: u32) -> Option<&T> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.as_ref()?;
        chunk.get(slot as usize % CHUNK)
    }

    /// The row, to be changed, if its chunk exists.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?.as_mut()?;
        chunk.get_mut(slot as usize % CHUNK)
    }

    /// The row, made if need be.
    pub fn obtain(&mut self, slot: u32) -> &mut T {
        let (chunk, row) = (slot as usize / CHUNK, slot as usize % CHUNK);
        while self.chunks.len() <= chunk {
            self.chunks.push(None);
        }
        let rows =
            self.chunks[chunk].get_or_insert_with(|| (0..CHUNK).map(|_| T::default()).collect());
        &mut rows[row]
    }

    /// One more than the highest slot that may have a row.
    pub fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Gives back chunks all of whose rows are unused.
    pub fn release(&mut self, is_unused: impl Fn(&T) -> bool) {
        for chunk in &mut self.chunks {
            if chunk.as_ref().is_some_and(|rows| rows.iter().all(&is_unused)) {
                *chunk = None;
            }
        }
        while let Some(None) = self.chunks.last() {
            self.chunks.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_and_go_by_chunks() {
        let mut table = BySlot::<u32>::default();
        *table.obtain(1000) = 7;
        *table.obtain(70) = 5;
        assert_eq!((table.get(1000), table.get(999), table.get(0)), (Some(&7), Some(&0), None));
        assert_eq!(table.end(), 1024);
        *table.obtain(1000) = 0;
        table.release(|row| *row == 0);
        assert_eq!(table.get_mut(70), Some(&mut 5));
        assert_eq!((table.get(1000), table.end()), (None, 128));
    }
}
