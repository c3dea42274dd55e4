//! How a command ends, for the shell.

/// The exit codes that users rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Operational; done.
    Good = 0,
    /// The check failed.
    Failed = 1,
    /// Wrong use or configuration.
    Usage = 2,
    /// A person must authorise.
    Person = 3,
    /// HighLevel or the store can't be reached.
    Unreachable = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
