//! Documents one after another in a gzip file, as `mongodump --gzip` writes a collection.
//!
//! BSON and not JSON text: a body such as `{"$oid":"x"}` would come back as something else. Holds
//! one document at a time.

use std::fs;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use mongodb::bson::{RawDocument, RawDocumentBuf};

use super::{BackupError, at, disk};

/// What MongoDB lets a document have, and some for its own fields.
const DOCUMENT_BYTES_MAX: usize = (16 << 20) + (16 << 10);
const DOCUMENT_BYTES_MIN: usize = 5;

/// A file being written.
pub(super) struct Writer {
    path: PathBuf,
    gzip: GzEncoder<BufWriter<fs::File>>,
    pub(super) documents: u64,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self, BackupError> {
        let file = BufWriter::new(disk::create_file(path)?);
        let gzip = GzEncoder::new(file, Compression::fast());
        Ok(Self { path: path.to_owned(), gzip, documents: 0 })
    }

    pub(super) fn push(&mut self, document: &RawDocument) -> Result<(), BackupError> {
        self.documents += 1;
        self.gzip.write_all(document.as_bytes()).map_err(at(&self.path))
    }

    /// Syncs it; how many documents it holds.
    pub(super) fn finish(self) -> Result<u64, BackupError> {
        let Self { path, gzip, documents } = self;
        let file = gzip.finish().map_err(at(&path))?;
        let file = file.into_inner().map_err(|error| at(&path)(error.into_error()))?;
        file.sync_all().map_err(at(&path))?;
        Ok(documents)
    }
}

/// A file being read: an iterator over its documents, which ends with the first error.
pub(super) struct Reader {
    path: PathBuf,
    gzip: BufReader<GzDecoder<BufReader<fs::File>>>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let file = BufReader::new(fs::File::open(path).map_err(at(path))?);
        Ok(Self { path: path.to_owned(), gzip: BufReader::new(GzDecoder::new(file)) })
    }

    /// The next document; `None` at the end, which lies between two.
    pub(super) fn pull(&mut self) -> Result<Option<RawDocumentBuf>, BackupError> {
        self.read().map_err(|error| {
            BackupError::Refused(format!("{}: damaged: {error}", self.path.display()))
        })
    }

    fn read(&mut self) -> io::Result<Option<RawDocumentBuf>> {
        let mut head = [0; 4];
        match self.gzip.read(&mut head[..1])? {
            0 => return Ok(None),
            _ => self.gzip.read_exact(&mut head[1..])?,
        }
        let length = u32::from_le_bytes(head) as usize;
        if !(DOCUMENT_BYTES_MIN..=DOCUMENT_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("{length} bytes in one")));
        }
        let mut bytes = vec![0; length];
        bytes[..4].copy_from_slice(&head);
        self.gzip.read_exact(&mut bytes[4..])?;
        RawDocumentBuf::from_bytes(bytes).map(Some).map_err(io::Error::other)
    }
}

/// Reads a small text of a gzip file.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, BackupError> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(at(path))?;
    GzDecoder::new(file).take(bytes_max).read_to_string(&mut text).map_err(at(path))?;
    Ok(text)
}

/// Writes a small text as a gzip file, synced.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), BackupError> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let bytes = gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish()).map_err(at(path))?;
    disk::write(path, &bytes)
}
