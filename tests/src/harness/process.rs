//! A program of others that ends with the test that has started it, whatever the test's end.

use std::process::{Child, Command};
use std::sync::mpsc;

/// A running program. It is killed by its process id when the owner ends it, and by the kernel when the test's process has gone.
pub(super) struct Process {
    pub child: Child,
    /// The kernel kills the child when the thread that started it ends, and this keeps that thread.
    _keeper: mpsc::Sender<()>,
}

impl Process {
    /// A command for `start`.
    pub fn command(program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command
    }

    pub fn start(mut command: Command) -> Self {
        let (keeper, released) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = tell.send(command.spawn());
            // Ends with the sender, which lives as long as the child is wanted.
            let _ = released.recv();
        });
        let child = told.recv().expect("the thread tells what became of it");
        let child = child.unwrap_or_else(|error| panic!("`setpriv` does not start ({error})"));
        Self { child, _keeper: keeper }
    }

    /// SIGKILL, and its end awaited.
    pub fn end(&mut self) {
        // Fails only when it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
