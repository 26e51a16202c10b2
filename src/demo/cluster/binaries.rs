//! Where PostgreSQL's programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::ClusterError;

/// One installation: a directory that holds at least `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    version: String,
    major: u32,
}

impl Binaries {
    /// The directory in `PGWEIR_PG_BIN`, else the first good one of `PATH` and, newest first, of Debian's places.
    pub fn find() -> Result<Self, ClusterError> {
        let candidates = candidates();
        for directory in &candidates {
            match Self::at(directory) {
                Ok(binaries) => return Ok(binaries),
                Err(ClusterError::NoBinaries { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(ClusterError::NoBinaries {
            looked_in: candidates,
        })
    }

    /// The installation whose programs are in this directory.
    pub fn at(directory: &Path) -> Result<Self, ClusterError> {
        let none = || ClusterError::NoBinaries {
            looked_in: vec![directory.to_owned()],
        };
        let postgres = directory.join("postgres");
        if !postgres.is_file() || !directory.join("initdb").is_file() {
            return Err(none());
        }
        // Followed to its end, since the programs look for their libraries beside themselves.
        let postgres = fs::canonicalize(&postgres).map_err(ClusterError::io("canonicalize"))?;
        let directory = postgres
            .parent()
            .map_or_else(|| directory.to_owned(), Path::to_owned);
        let output = Command::new(&postgres)
            .arg("--version")
            .output()
            .map_err(ClusterError::io(postgres.display().to_string()))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match major_of(&version) {
            Some(major) if major >= MAJOR_MIN => Ok(Self {
                directory,
                version,
                major,
            }),
            Some(_) | None => Err(none()),
        }
    }

    /// 15 for `postgres (PostgreSQL) 15.18`.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// What `postgres --version` prints.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The path of a server program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The path of a client program (`psql`, `pgbench`), which may be another installation's.
    #[must_use]
    pub fn client_program(&self, name: &str) -> PathBuf {
        std::iter::once(self.directory.clone())
            .chain(candidates())
            .map(|directory| directory.join(name))
            .find(|path| path.is_file())
            .unwrap_or_else(|| PathBuf::from(name))
    }
}

fn candidates() -> Vec<PathBuf> {
    if let Some(directory) = env::var_os("PGWEIR_PG_BIN") {
        return vec![PathBuf::from(directory)];
    }
    let mut found: Vec<PathBuf> =
        env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect());
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    debian.sort_by(|a, b| b.cmp(a));
    found.extend(debian.into_iter().map(|(_, directory)| directory));
    found
}

fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number
        .find(|c: char| !c.is_ascii_digit())
        .map_or(number, |end| number.get(..end).unwrap_or(number));
    digits.parse().ok()
}

/// The oldest major whose protocol and catalogs are tested.
const MAJOR_MIN: u32 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_of("postgres"), None);
    }
}
