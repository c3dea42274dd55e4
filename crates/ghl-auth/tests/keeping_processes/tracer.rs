//! Runs a program and strikes at one of its system calls.

use std::process::{Command, Stdio};

use nix::libc;

/// What happens at the system call that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process is killed, and the call is not made.
    Kill,
    /// The call is not made, and fails so.
    Fail(i32),
}

/// How a traced run ended.
#[derive(Debug)]
pub(crate) struct Traced {
    /// Whether the blow fell; otherwise the run was over before.
    pub(crate) struck: bool,
    /// Whether it ended by itself, and well.
    pub(crate) succeeded: bool,
}

/// Chooses calls by their number and their third argument, which is how much is to be written.
pub(crate) type Counts = fn(i64, u64) -> bool;

pub(crate) use calls::{any_call, leaves_a_trace, syncs, takes_room};

/// Runs the command and strikes at the `at`-th call, counted from 1, of those that `counts` chooses,
/// whichever of its threads makes it. `None` when processes can't be traced here.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::zombie_processes, reason = "it is waited for as whoever traces it does")]
pub(crate) fn strike(command: &Command, counts: Counts, at: usize, blow: Blow) -> Option<Traced> {
    use std::collections::HashSet;

    use nix::sys::ptrace::{self, Options};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;

    // A shell waits until it is traced, and then becomes the program.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "read go; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.expect("a value"));
    }
    shell.current_dir(command.get_current_dir().expect("a folder"));
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell starts");
    let root = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    if ptrace::seize(root, options).and_then(|()| ptrace::interrupt(root)).is_err() {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    // Closing it is as good as a line.
    drop(child.stdin.take());

    let (mut seen, mut struck, mut is_the_program) = (0, false, false);
    let mut failing = HashSet::new();
    loop {
        let status = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD));
        // A thread that is gone by the time it is told to go on is no matter.
        let go_on = |pid, signal: Option<Signal>| ptrace::syscall(pid, signal).unwrap_or(());
        match status.expect("something to wait for") {
            WaitStatus::Exited(pid, code) if pid == root => {
                return Some(Traced { struck, succeeded: code == 0 });
            }
            WaitStatus::Signaled(pid, ..) if pid == root => {
                return Some(Traced { struck, succeeded: false });
            }
            WaitStatus::PtraceSyscall(pid) => {
                let Ok(mut registers) = ptrace::getregs(pid) else { continue };
                let enters = registers.rax == (-i64::from(libc::ENOSYS)).cast_unsigned();
                if failing.remove(&pid) {
                    if let Blow::Fail(error) = blow {
                        registers.rax = (-i64::from(error)).cast_unsigned();
                        let _ = ptrace::setregs(pid, registers);
                    }
                } else if enters && is_the_program && counts(registers.orig_rax.cast_signed(), registers.rdx)
                {
                    seen += 1;
                    if seen == at {
                        struck = true;
                        match blow {
                            Blow::Kill => {
                                let _ = kill(root, Signal::SIGKILL);
                                continue;
                            }
                            Blow::Fail(_) => {
                                registers.orig_rax = u64::MAX;
                                let _ = ptrace::setregs(pid, registers);
                                failing.insert(pid);
                            }
                        }
                    }
                }
                go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                is_the_program |= event == libc::PTRACE_EVENT_EXEC;
                go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
            _ => {}
        }
    }
}

/// Elsewhere a call can't be changed in the same way.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn strike(_: &Command, _: Counts, _: usize, _: Blow) -> Option<Traced> {
    None
}

#[cfg(target_arch = "x86_64")]
mod calls {
    use nix::libc;

    /// The calls by which something leaves the process or reaches the disk, and those that bring answers.
    pub(crate) fn leaves_a_trace(call: i64, _: u64) -> bool {
        const CALLS: [i64; 24] = [
            libc::SYS_write,
            libc::SYS_pwrite64,
            libc::SYS_writev,
            libc::SYS_pwritev,
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_rename,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_link,
            libc::SYS_linkat,
            libc::SYS_unlink,
            libc::SYS_unlinkat,
            libc::SYS_mkdir,
            libc::SYS_mkdirat,
            libc::SYS_rmdir,
            libc::SYS_fchmod,
            libc::SYS_fchown,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_recvfrom,
            libc::SYS_connect,
        ];
        CALLS.contains(&call)
    }

    pub(crate) fn any_call(_: i64, _: u64) -> bool {
        true
    }

    pub(crate) fn syncs(call: i64, _: u64) -> bool {
        [libc::SYS_fsync, libc::SYS_fdatasync].contains(&call)
    }

    /// Calls that need room on the disk; the shortest writes go to terminals and between threads.
    pub(crate) fn takes_room(call: i64, length: u64) -> bool {
        match call {
            libc::SYS_write => length > 500,
            libc::SYS_pwrite64 | libc::SYS_ftruncate | libc::SYS_fallocate | libc::SYS_mkdir => true,
            _ => false,
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod calls {
    pub(crate) fn any_call(_: i64, _: u64) -> bool {
        false
    }

    pub(crate) use {any_call as leaves_a_trace, any_call as syncs, any_call as takes_room};
}
