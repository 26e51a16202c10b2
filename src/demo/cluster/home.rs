//! One directory for one server: in memory where there is room, removed when dropped.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::error::ClusterError;

/// A directory of the account's own. A lock on a file in it says that its owner lives: what a killed process left behind is
/// found by that, and removed by the next one.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Makes a new one, and clears away those whose owners are gone.
    pub fn create(account: &Account) -> Result<Self, ClusterError> {
        let parent = parent_with_room();
        sweep(&parent);
        let path = parent.join(format!("{NAME_PREFIX}{:016x}", rand::random::<u64>()));
        let failed = |what: &str| ClusterError::io(format!("{what} {}", path.display()));
        fs::create_dir(&path).map_err(failed("creating"))?;
        // Locked before it has its name, so that nobody can find it unlocked.
        let unnamed = path.join("lock.new");
        let lock = File::create(&unnamed).map_err(failed("creating the lock of"))?;
        lock.lock().map_err(failed("locking"))?;
        fs::rename(&unnamed, path.join(LOCK_NAME)).map_err(failed("locking"))?;
        let home = Self {
            path: path.clone(),
            _lock: lock,
        };
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(failed("protecting"))?;
        account.own(&path)?;
        Ok(home)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A directory inside that only the account may enter.
    pub(super) fn subdirectory(&self, account: &Account, name: &str) -> Result<PathBuf, ClusterError> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(ClusterError::io(format!("creating {}", path.display())))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(ClusterError::io("chmod"))?;
        account.own(&path)?;
        Ok(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Files may still appear while the last processes of a server end.
        for _ in 0..REMOVE_ATTEMPTS_MAX {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Ok(()) | Err(_) => return,
            }
        }
    }
}

fn parent_with_room() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    if room >= MEMORY_ROOM_MIN {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(NAME_PREFIX) {
            continue;
        }
        let lock_path = entry.path().join(LOCK_NAME);
        let is_lock = fs::symlink_metadata(&lock_path).is_ok_and(|metadata| metadata.is_file());
        let is_abandoned = is_lock && File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_ok());
        if is_abandoned {
            // Another user's is left to that user.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The start of the directories' names. Short, since the path of a Unix socket may have 107 bytes.
const NAME_PREFIX: &str = "pgweir-pg-";

const LOCK_NAME: &str = "lock";

/// A server with its write-ahead log stays well under this.
const MEMORY_ROOM_MIN: u64 = 256 << 20;

/// More than the files that a dying server can still make.
const REMOVE_ATTEMPTS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_goes_when_it_is_dropped_and_an_abandoned_one_at_the_next_sweep() {
        let scratch = tempfile::tempdir().unwrap();
        let abandoned = scratch.path().join(format!("{NAME_PREFIX}dead"));
        let living = scratch.path().join(format!("{NAME_PREFIX}living"));
        let other = scratch.path().join("other");
        for directory in [&abandoned, &living, &other] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join(LOCK_NAME), "").unwrap();
        }
        let lock = File::open(living.join(LOCK_NAME)).unwrap();
        lock.lock().unwrap();
        sweep(scratch.path());
        assert!(!abandoned.exists() && living.exists() && other.exists());
    }

    #[test]
    fn a_living_home_survives_the_making_of_another() {
        let account = Account::choose().unwrap();
        let first = Home::create(&account).unwrap();
        let second = Home::create(&account).unwrap();
        let path = first.path().to_owned();
        assert!(path.is_dir() && second.path().is_dir());
        drop(first);
        assert!(!path.exists());
    }
}
