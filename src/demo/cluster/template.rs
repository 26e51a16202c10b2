//! A data directory that `initdb` made once, to be copied.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::account::Account;
use super::binaries::Binaries;
use super::error::ClusterError;
use super::home::Home;
use super::instance::Instance;

/// What all instances of a template have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The whole of `pg_hba.conf`.
    pub hba: String,
    /// Settings after the built-in ones, by name and value.
    pub settings: Vec<(String, String)>,
}

impl Recipe {
    /// Everybody on this machine may be anybody: for tests.
    #[must_use]
    pub fn trust() -> Self {
        Self {
            hba: HBA_TRUST.to_owned(),
            settings: Vec::new(),
        }
    }

    /// TCP needs a password; the Unix socket, which only the server's own user reaches, does not.
    #[must_use]
    pub fn scram() -> Self {
        Self {
            hba: HBA_SCRAM.to_owned(),
            settings: Vec::new(),
        }
    }

    /// Adds a setting; the last of a name wins.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What one instance has for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceOptions {
    /// Settings after the recipe's.
    pub settings: Vec<(String, String)>,
    /// Instead of the recipe's `pg_hba.conf`.
    pub hba: Option<String>,
}

/// The data directory that instances are copied from.
#[derive(Debug)]
pub struct Template {
    binaries: Binaries,
    account: Account,
    data: PathBuf,
    /// None when the directory outlives this value.
    _home: Option<Home>,
}

impl Template {
    /// Runs `initdb`, in a directory that goes with the template.
    pub fn make(binaries: Binaries, recipe: &Recipe) -> Result<Self, ClusterError> {
        let account = Account::choose()?;
        let home = Home::create(&account)?;
        let data = home.path().join("data");
        initialize(&binaries, &account, &data, recipe)?;
        Ok(Self {
            binaries,
            account,
            data,
            _home: Some(home),
        })
    }

    /// The same, kept in a directory for later processes too: the first one makes it while the others wait.
    pub fn cached(binaries: Binaries, recipe: &Recipe, directory: &Path) -> Result<Self, ClusterError> {
        let account = Account::choose()?;
        let data = directory.join(cached_name(&binaries, &account, recipe));
        let failed = |what: &str| ClusterError::io(format!("{what} {}", data.display()));
        fs::create_dir_all(directory).map_err(failed("creating the parent of"))?;
        let lock = File::create(data.with_extension("lock")).map_err(failed("creating the lock of"))?;
        lock.lock().map_err(failed("locking"))?;
        if !data.exists() {
            // The account may not be able to enter the directory, so it is made elsewhere and copied with its owner.
            let made = Self::make(binaries.clone(), recipe)?;
            let unfinished = data.with_extension("unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            copy(&made.data, &unfinished)?;
            fs::rename(&unfinished, &data).map_err(failed("renaming"))?;
        }
        Ok(Self {
            binaries,
            account,
            data,
            _home: None,
        })
    }

    /// A copy of the template with a port of its own, not started.
    pub fn instance(&self, options: &InstanceOptions) -> Result<Instance, ClusterError> {
        let home = Home::create(&self.account)?;
        copy(&self.data, &home.path().join("data"))?;
        Instance::new(self.binaries.clone(), self.account.clone(), home, options)
    }

    /// A streaming replica of an instance that was made from this template, not started. It has the primary's settings and
    /// its own after them. It begins where the template
    /// ends, so the primary must still have all its write-ahead log: `wal_keep_size` sees to the first 256 MB.
    pub fn replica_of(
        &self,
        primary: &Instance,
        options: &InstanceOptions,
    ) -> Result<Instance, ClusterError> {
        let mut options = options.clone();
        let source = format!(
            "host={} port={} user=postgres",
            primary.socket_directory().display(),
            primary.port()
        );
        options.settings.push(("primary_conninfo".to_owned(), source));
        let replica = self.instance(&options)?;
        // Several settings may not be lower than the primary's.
        replica.take_settings_of(primary, &options)?;
        let signal = replica.data_directory().join("standby.signal");
        fs::write(&signal, "").map_err(ClusterError::io("writing standby.signal"))?;
        self.account.own(&signal)?;
        Ok(replica)
    }

    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }
}

/// Lines for `postgresql.conf`.
pub(super) fn settings_text(settings: &[(String, String)]) -> String {
    settings.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(
            text,
            "{name} = '{}'",
            value.replace('\\', "\\\\").replace('\'', "''")
        );
        text
    })
}

/// Runs a command to its end; what it printed, or an error with that in it.
pub(super) fn run(command: &mut Command) -> Result<String, ClusterError> {
    let what = command.get_args().last().map_or_else(
        || command.get_program().display().to_string(),
        |last| format!("{} … {}", command.get_program().display(), last.display()),
    );
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().map_err(ClusterError::io(what.clone()))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        Ok(stdout)
    } else {
        Err(ClusterError::Command {
            what,
            output: format!("{stdout}{}", String::from_utf8_lossy(&stderr)),
        })
    }
}

fn initialize(
    binaries: &Binaries,
    account: &Account,
    data: &Path,
    recipe: &Recipe,
) -> Result<(), ClusterError> {
    run(account
        .command(binaries.program("initdb"))
        .args([
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=trust",
            "--no-sync",
        ])
        // Small segments make a small copy.
        .args(["--wal-segsize=1", "--no-instructions", "--pgdata"])
        .arg(data))?;
    let settings_path = data.join("postgresql.conf");
    let written = fs::read_to_string(&settings_path).map_err(ClusterError::io("reading postgresql.conf"))?;
    let text = format!("{written}\n{SETTINGS}{}", settings_text(&recipe.settings));
    fs::write(&settings_path, text).map_err(ClusterError::io("writing postgresql.conf"))?;
    fs::write(data.join("pg_hba.conf"), &recipe.hba).map_err(ClusterError::io("writing pg_hba.conf"))
}

fn copy(from: &Path, to: &Path) -> Result<(), ClusterError> {
    run(Command::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(from)
        .arg(to))
    .map(drop)
}

fn cached_name(binaries: &Binaries, account: &Account, recipe: &Recipe) -> String {
    let mut hasher = DefaultHasher::new();
    binaries.version().hash(&mut hasher);
    binaries.program("initdb").hash(&mut hasher);
    SETTINGS.hash(&mut hasher);
    recipe.hash(&mut hasher);
    if let Account::Other { uid, .. } = account {
        uid.hash(&mut hasher);
    }
    format!("postgres-{}-{:016x}", binaries.major(), hasher.finish())
}

/// Fast, small and without traces outside the data directory.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
shared_buffers = '16MB'
dynamic_shared_memory_type = mmap
wal_level = replica
max_wal_senders = 10
wal_keep_size = '256MB'
max_wal_size = '64MB'
min_wal_size = '2MB'
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = 'UTC'
timezone = 'UTC'
";

const HBA_TRUST: &str = "\
local all all trust
host all all all trust
local replication all trust
host replication all all trust
";

const HBA_SCRAM: &str = "\
local all all trust
local replication all trust
host all all all scram-sha-256
host replication all all scram-sha-256
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_keeps_its_quotes_and_backslashes() {
        let settings = [("search_path".to_owned(), r#"it's, "a\b""#.to_owned())];
        assert_eq!(settings_text(&settings), "search_path = 'it''s, \"a\\\\b\"'\n");
    }

    #[test]
    fn another_recipe_is_another_cached_template() {
        let binaries = Binaries::find().unwrap();
        let name = |recipe: &Recipe| cached_name(&binaries, &Account::Own, recipe);
        assert_eq!(name(&Recipe::trust()), name(&Recipe::trust()));
        assert_ne!(name(&Recipe::trust()), name(&Recipe::scram()));
        assert_ne!(
            name(&Recipe::trust()),
            name(&Recipe::trust().setting("work_mem", "1MB"))
        );
    }
}
