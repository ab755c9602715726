//! `stentor config`: checks, prints and documents the configuration. All of it is made from the declaration of the keys
//! (`options/settings.rs`).

pub mod docs;
pub mod toml;

use crate::admin::token;
use crate::file_modes;
use crate::machine;
use crate::options::{ConfigCommand, Options, StoreKind, command_line, warnings};
use crate::terminal;
use crate::tls::TlsAcceptor;

/// Why a command about the configuration has failed.
#[derive(Debug)]
pub enum ConfigFailure {
    /// A start would fail, for each of these reasons.
    Errors(Vec<String>),
    /// Another reason, for the operator.
    Other(String),
}

impl From<String> for ConfigFailure {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

/// Carries the command out. Returns what is to be printed.
pub fn run(options: &Options, command: &ConfigCommand) -> Result<String, ConfigFailure> {
    match command {
        ConfigCommand::Check { strict } => check(options, *strict),
        ConfigCommand::Print => Ok(toml::printed(&options.configuration)),
        ConfigCommand::Default => Ok(toml::template()),
        ConfigCommand::Docs => Ok(docs::page()),
        ConfigCommand::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command_line(), "stentor", &mut script);
            Ok(text(script)?)
        }
        ConfigCommand::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command_line()).render(&mut page).map_err(|error| error.to_string())?;
            Ok(text(page)?)
        }
    }
}

/// What a start with these options would warn of.
pub fn start_warnings(options: &Options) -> Vec<String> {
    let mut lines = warnings(options, &machine::allowed());
    lines.extend(file_modes::readable(&options.secret_files()));
    lines
}

/// What would end a start with these options, as far as files and the machine's limits show it. What the options say by
/// themselves was looked at when they were read.
fn start_errors(options: &Options) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(files) = &options.tls {
        errors.extend(TlsAcceptor::load(files.clone(), options.ktls).err().map(|error| format!("no TLS: {error}")));
    }
    let token = options.admin.and_then(|_| options.admin_token_path()).filter(|path| path.exists());
    errors.extend(token.and_then(|path| token::read(&path).err()).map(|error| error.to_string()));
    if options.store == StoreKind::Embedded {
        let (data, store) = (&options.data, options.store_directory());
        if data.exists() && !data.is_dir() {
            errors.push(format!("data: {} is no directory", data.display()));
        } else if options.read_only && !store.is_dir() {
            errors.push(format!("read_only: there is no store in {}, and none is made", data.display()));
        }
    }
    errors.extend(machine::too_few_descriptors(machine::allowed().descriptors, options.shards.get().into()));
    errors
}

fn check(options: &Options, strict: bool) -> Result<String, ConfigFailure> {
    let errors = start_errors(options);
    let warnings = start_warnings(options);
    warnings.iter().for_each(|line| terminal::tell(&format!("stentor: warning: {line}")));
    if !errors.is_empty() {
        return Err(ConfigFailure::Errors(errors));
    }
    let count = warnings.len();
    if strict && count > 0 {
        return Err(format!("no errors; warnings: {count}, and --strict allows none").into());
    }
    let file = options.configuration.file.as_ref();
    let file = file.map_or_else(|| "no configuration file".to_owned(), |file| file.display().to_string());
    let stop = options.drain.stop_max().as_secs();
    Ok(format!(
        "{file}, environment and flags: no errors; warnings: {count}\na stop may take {stop} s: the supervisor's grace \
         (TimeoutStopSec=, terminationGracePeriodSeconds, stop_grace_period) must be longer\n"
    ))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
