//! Certificates for tests, made by `openssl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a certificate of 127.0.0.1 and localhost for two days, and its key, in `<name>cert.pem` and `<name>key.pem` of the
/// directory. Clients trust it if they are given it as a root.
pub fn make_certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let paths = ["cert.pem", "key.pem"].map(|file| directory.join(format!("{name}{file}")));
    let [certificate, key] = &paths;
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .output()
        .expect("openssl runs: `./check` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    paths.into()
}

/// Makes a certificate and the certificate that replaces it (`next-`), and `ca.pem` with both as roots.
pub fn make_certificates(directory: &Path) {
    let roots = ["", "next-"].map(|name| fs::read_to_string(make_certificate(directory, name).0).expect("it was made"));
    fs::write(directory.join("ca.pem"), roots.concat()).expect("a file in our own directory");
}
