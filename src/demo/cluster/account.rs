//! Whom the servers run as, and how a command becomes theirs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use super::error::ClusterError;

/// The user that owns the servers' files and processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// The user of this process.
    Own,
    /// Another one, because this process is root.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// This process's own user, or an unprivileged one when that is root.
    pub fn choose() -> Result<Self, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let table = fs::read_to_string("/etc/passwd").map_err(ClusterError::io("reading /etc/passwd"))?;
        let named = std::env::var("PGWEIR_PG_USER").ok();
        let candidates = named
            .as_deref()
            .map_or_else(|| vec!["postgres", "nobody"], |name| vec![name]);
        candidates
            .into_iter()
            .find_map(|name| find_in(&table, name))
            .ok_or(ClusterError::NoAccount)
    }

    /// The command, run by this account and without the settings of libpq in its environment.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.prepare(program.as_ref(), None)
    }

    /// The same for a server: the kernel tells it to shut down at once when the thread that started it ends. So nothing
    /// outlives a process that was killed.
    pub(super) fn server_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.prepare(program.as_ref(), Some("QUIT"))
    }

    /// Makes this account the owner of a file or directory.
    pub fn own(&self, path: &Path) -> Result<(), ClusterError> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(*uid), Some(*gid))
                .map_err(ClusterError::io(format!("chown {}", path.display()))),
        }
    }

    fn prepare(&self, program: &OsStr, death_signal: Option<&str>) -> Command {
        let mut arguments = Vec::new();
        if let Self::Other { uid, gid, .. } = self {
            arguments.extend([
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".to_owned(),
            ]);
        }
        if let Some(signal) = death_signal {
            arguments.push(format!("--pdeathsig={signal}"));
        }
        let mut command = if arguments.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("setpriv");
            command.args(arguments).arg("--").arg(program);
            command
        };
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("PG") || name_text.starts_with("LC_") {
                command.env_remove(&name);
            }
        }
        // The current directory may be closed to the other account.
        command.env("LC_ALL", "C").current_dir("/");
        command
    }
}

fn find_in(table: &str, wanted: &str) -> Option<Account> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account::Other {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_name_and_root_is_none() {
        let table = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:Admin,,,:/var/lib:/bin/bash\ntoor:x:0:0::/:/bin/sh\n";
        let postgres = Account::Other {
            name: "postgres".to_owned(),
            uid: 101,
            gid: 104,
        };
        assert_eq!(find_in(table, "postgres"), Some(postgres));
        assert_eq!(find_in(table, "toor"), None);
        assert_eq!(find_in(table, "post"), None);
    }
}
