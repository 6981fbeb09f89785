//! `copal convert`: the translation on standard output, what is left on standard error; exit status 0, 1 if something is left, 2 if the
//! file can't be read.

use crate::{
    check::{BAD_CONFIGURATION, complain, say},
    cli::ConvertArguments,
};
use convert::{ConvertError, Peer, TEXT_MAX};
use std::{
    fs::File,
    io::{Read, stdin},
    path::Path,
    process::ExitCode,
};

pub(crate) fn run(arguments: &ConvertArguments) -> ExitCode {
    match translated(&arguments.file, arguments.from.as_deref().and_then(Peer::named)) {
        Ok(converted) => {
            say(converted.yaml.trim_end());
            tell(&converted.left);
            u8::from(!converted.left.is_empty()).into()
        }
        Err(cause) => {
            complain(&cause.into());
            BAD_CONFIGURATION.into()
        }
    }
}

fn translated(path: &Path, peer: Option<Peer>) -> Result<convert::Converted, ConvertError> {
    let is_input = path == Path::new("-");
    let read = if is_input { read(stdin().lock()) } else { File::open(path).and_then(read) };
    let text = read.map_err(|cause| ConvertError::Read { path: path.to_owned(), why: cause.to_string() })?;
    convert::convert(&text, path, peer)
}

/// A little more than may be read, which is refused then.
fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(TEXT_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[expect(clippy::print_stderr, reason = "the command line's own answer")]
fn tell(left: &[convert::Left]) {
    for line in left {
        eprintln!("{line}");
    }
}
