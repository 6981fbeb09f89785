//! Tar: ustar and pax (POSIX.1-2001) and GNU's long names, as a stream. Strict where readers of tar differ, so that nobody sees
//! another archive in the same bytes.

mod header;
mod pax;

use crate::{
    Sink,
    content::Content,
    error::{Failure, Problem},
    intake::Intake,
    limits::Limits,
    meter::PIECE,
};
use header::Header;
use pax::Extension;
use std::io::{BufReader, ErrorKind, Read};

/// Everything in a tar is a multiple of this long.
pub(crate) const BLOCK: usize = 512;
/// Extended headers and long names before one entry.
const EXTENSIONS_MAX: u32 = 8;

/// Whether a tar begins like this: with a header whose checksum is right, or with its end.
pub(crate) fn is_start(block: &[u8; BLOCK]) -> bool {
    let header = Header(*block);
    header.is_zero() || header.has_right_checksum()
}

/// Reads the whole `stream`, what follows the archive's end included.
pub(crate) fn read<S: Sink>(
    stream: impl Read,
    limits: &Limits,
    intake: &mut Intake<'_, S>,
) -> Result<(), Failure<S::Error>> {
    let mut stream = BufReader::with_capacity(PIECE, stream);
    let mut first = true;
    let mut extension = Extension::default();
    let mut extensions = 0;
    while let Some(header) = next_header(&mut stream, first)? {
        first = false;
        if extension.read(&header, limits, &mut stream)? {
            extensions += 1;
            if extensions > EXTENSIONS_MAX {
                return Err(damaged("more than 8 extended headers before an entry").into());
            }
            continue;
        }
        entry(&header, &extension, &mut stream, intake)?;
        extension = Extension::default();
        extensions = 0;
    }
    if extensions > 0 && extension.awaits_entry() {
        return Err(damaged("an extended header at the end, expected an entry after it").into());
    }
    only_zeros_follow(&mut stream)?;
    Ok(())
}

/// `None` at the archive's end: a block of zeros. POSIX has two of them; all that is needed to tell a whole archive from one that
/// was cut off is the first.
fn next_header(stream: &mut impl Read, first: bool) -> Result<Option<Header>, Problem> {
    let mut header = Vec::with_capacity(BLOCK);
    stream.by_ref().take(BLOCK as u64).read_to_end(&mut header)?;
    let whole = header.try_into().ok().map(Header);
    match whole {
        Some(header) if header.is_zero() => Ok(None),
        Some(header) if header.has_right_checksum() => Ok(Some(header)),
        // Of a compressed archive: what is in it is no tar at all.
        _ if first => Err(Problem::NotAnArchive { found: "a compressed file, but no tar in it" }),
        Some(_) => Err(damaged("the checksum of a header is wrong")),
        None => Err(Problem::Truncated),
    }
}

fn entry<S: Sink>(
    header: &Header,
    extension: &Extension,
    stream: &mut impl Read,
    intake: &mut Intake<'_, S>,
) -> Result<(), Failure<S::Error>> {
    let name = extension.path.clone().unwrap_or_else(|| header.path());
    let at = |problem: Problem| Failure::at(&name, problem);
    let size = extension.size.map_or_else(|| header.size(), Ok).map_err(at)?;
    let target = || extension.target.clone().unwrap_or_else(|| header.target());
    // Before POSIX a folder was a file with `/` at its end; GNU tar still reads it so.
    let kind = if matches!(header.kind(), b'0' | 0) && name.ends_with(b"/") { b'5' } else { header.kind() };
    match kind {
        b'0' | b'7' | 0 => {
            let executable = header.is_executable().map_err(at)?;
            let mut bytes = stream.by_ref().take(size);
            let content = Content::new(&mut bytes, size, None);
            intake.file(&name, executable, size, content)?;
            skip_padding(size, stream).map_err(at)
        }
        b'1' | b'2' | b'5' if size != 0 => {
            Err(at(damaged("a link or folder with content, expected a size of 0")))
        }
        b'1' => intake.copy(&name, &target()),
        b'2' => intake.link(&name, &target()),
        b'5' => intake.folder(&name),
        other => Err(at(Problem::Unsupported {
            found: kind_name(other),
            expected: "files, folders, symbolic links and hard links alone",
        })),
    }
}

fn kind_name(kind: u8) -> String {
    match kind {
        b'3' => "a character device".to_owned(),
        b'4' => "a block device".to_owned(),
        b'6' => "a FIFO".to_owned(),
        b'S' => "a sparse file".to_owned(),
        b'M' | b'D' | b'V' | b'N' => format!("an entry of a backup (type {})", char::from(kind)),
        _ => format!("an entry of the type `{}`", kind.escape_ascii()),
    }
}

/// The zeros that fill the last block of a content of `size` bytes.
fn skip_padding(size: u64, stream: &mut impl Read) -> Result<(), Problem> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    let mut padding = [0; BLOCK];
    let padding = &mut padding[..(BLOCK - over) % BLOCK];
    Ok(stream.read_exact(padding)?)
}

/// Zeros fill an archive up to the size of a tape's record; whatever else there is would not be deployed. Read to the end, the
/// checksum of what it was compressed with is seen, too.
fn only_zeros_follow(stream: &mut impl Read) -> Result<(), Problem> {
    let mut piece = [0; 8 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) if piece[..read].iter().all(|byte| *byte == 0) => {}
            Ok(_) => return Err(damaged("more after the archive's end, expected nothing but zeros")),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn damaged(text: &str) -> Problem {
    Problem::Damaged(text.to_owned())
}
