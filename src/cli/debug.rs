//! `millstream debug`: looks into the files of a broker, without one.

use std::io::{self, BufWriter, Write};

use super::args::{DebugAction, DebugCommand};
use super::failure::{Failure, Stop};

pub fn run(command: &DebugCommand) -> Result<(), Stop> {
    let DebugAction::Log(args) = &command.action;
    let mut out = BufWriter::new(io::stdout().lock());
    let dumped = crate::log::dump_segment(&args.file, &mut out);
    let flushed = out.flush();
    match flushed.and(dumped) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let what = format!("cannot print {}", args.file.display());
            Err(Failure::new(what, error.to_string()).into())
        }
        Err(error) => Err(error.into()),
        Ok(Some(position)) => {
            let what = format!("{} is damaged", args.file.display());
            Err(Failure::new(what, format!("no whole frame at position {position}")).into())
        }
        Ok(None) => Ok(()),
    }
}
