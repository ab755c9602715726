//! Faulty disks: a disk whose syncs fail or wait on command, and a small disk that a test can fill.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A library that replaces the C library's sync functions. While the file named in `HELD_SYNC` exists, each sync waits,
/// as on a disk that hangs. While the file named in `FAILING_SYNC` exists, each sync fails as on a broken disk. The
/// written data stays in the kernel's cache, as it does on a broken disk.
const FAULTY_SYNC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_by(const char *name, int file) {
    const char *held = getenv("HELD_SYNC");
    while (held && access(held, F_OK) == 0) usleep(5000);
    const char *fails = getenv("FAILING_SYNC");
    if (fails && access(fails, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fdatasync(int file) { return sync_by("fdatasync", file); }
int fsync(int file) { return sync_by("fsync", file); }
"#;

/// Syncs that fail or wait from a chosen time on, in each program that is started with `confine`.
pub struct FaultySyncs {
    directory: TempDir,
}

impl FaultySyncs {
    /// Builds the library with the C compiler that Rust uses for linking.
    pub fn build() -> Self {
        let directory = super::data_dir();
        let source = directory.path().join("faulty_sync.c");
        std::fs::write(&source, FAULTY_SYNC).expect("a file");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let mut command = Command::new(&compiler);
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(directory.path().join("faulty_sync.so")).arg(source);
        let built = command.arg("-ldl").output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { directory }
    }

    /// For `Launch::confined`.
    pub fn confine(&self) -> impl FnOnce(&mut Command) + 'static {
        let library = self.directory.path().join("faulty_sync.so");
        let (fails, held) = (self.switch("fails"), self.switch("held"));
        move |command| {
            command.env("LD_PRELOAD", library).env("FAILING_SYNC", fails).env("HELD_SYNC", held);
        }
    }

    /// Makes all syncs fail from now on.
    pub fn fail(&self) {
        File::create(self.switch("fails")).expect("a file");
    }

    /// Makes all syncs wait from now on.
    pub fn hold(&self) {
        File::create(self.switch("held")).expect("a file");
    }

    /// Lets the waiting syncs go on.
    pub fn let_go(&self) {
        std::fs::remove_file(self.switch("held")).expect("they are held");
    }

    fn switch(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A small file system in memory, in a separate mount name space: no other program sees it, and it is removed when this
/// is dropped.
pub struct SmallDisk {
    /// The process that keeps the name space alive until its input ends.
    name_space: Child,
    place: TempDir,
}

impl SmallDisk {
    /// Mounts the file system. This needs the right to mount, which root has.
    pub fn mount(mib: u32) -> Self {
        let place = super::data_dir();
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut name_space = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(place.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux, is installed");
        let mut said = String::new();
        let output = name_space.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut said).expect("text");
        assert_eq!(said, "mounted\n", "this test mounts a file system of its own, which only root may: run it as root");
        Self { name_space, place }
    }

    /// The path for a program that is started with `confine`.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// The path for all other programs.
    pub fn seen_from_outside(&self) -> PathBuf {
        let path = self.path().strip_prefix("/").expect("a temporary directory has an absolute path");
        Path::new(&format!("/proc/{}/root", self.name_space.id())).join(path)
    }

    /// For `Launch::confined`: starts the program in the name space.
    pub fn confine(&self) -> impl FnOnce(&mut Command) + 'static {
        let space = format!("--mount=/proc/{}/ns/mnt", self.name_space.id());
        move |command| {
            let mut inside = Command::new("nsenter");
            inside.arg(space).arg("--").arg(command.get_program()).args(command.get_args());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => inside.env(name, value),
                    None => inside.env_remove(name),
                };
            }
            inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *command = inside;
        }
    }

    /// The room that is left, in MiB.
    pub fn free_mib(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.seen_from_outside()).expect("a file system");
        (stat.f_bavail * stat.f_frsize) >> 20
    }

    /// Writes a file, as another program might, until only so many MiB are free.
    pub fn fill_to(&self, mib: u64) {
        let more = self.free_mib().checked_sub(mib).expect("less is free already") << 20;
        let path = self.filler();
        let before = path.metadata().map_or(0, |file| file.len());
        let file = File::options().create(true).append(true).open(path).expect("a file");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), before, more).expect("there is room for it");
    }

    /// Removes that file.
    pub fn make_room(&self) {
        std::fs::remove_file(self.filler()).expect("it is there");
    }

    /// Makes the file system take no writes any more, as systems do with a disk on which they have met errors. No file of
    /// it may be open for writing.
    pub fn refuse_writes(&self) {
        let space = format!("--mount=/proc/{}/ns/mnt", self.name_space.id());
        let mut remount = Command::new("nsenter");
        remount.args([&space, "--", "mount", "-o", "remount,ro"]).arg(self.path());
        assert!(remount.status().expect("nsenter, of util-linux, is installed").success());
    }

    fn filler(&self) -> PathBuf {
        self.seen_from_outside().join("a-file-of-another-program")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.name_space.kill();
        let _ = self.name_space.wait();
    }
}
