//! A third-party program that ends with the test that started it, however the test ends.

use std::process::{Child, Command};
use std::sync::mpsc;

/// A running program. The owner kills it by its process id, and the kernel kills it when the test's process has ended.
pub(super) struct Process {
    pub child: Child,
    /// The kernel kills the child when the thread that started it ends. This sender keeps that thread alive.
    _release: mpsc::Sender<()>,
}

impl Process {
    /// A command for `start`.
    pub fn command(program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command
    }

    /// Starts a command that [`Self::command`] made. Panics if it does not start.
    pub fn start(mut command: Command) -> Self {
        let (release, released) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = tell.send(command.spawn());
            // Returns when the sender is dropped, and the sender lives as long as the child.
            let _ = released.recv();
        });
        let child = told.recv().expect("the thread tells what became of it");
        let child = child.unwrap_or_else(|error| panic!("`setpriv` does not start ({error})"));
        Self { child, _release: release }
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn end(&mut self) {
        // This fails only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
