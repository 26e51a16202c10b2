//! PostgreSQL servers for tests: a copy of a template that was made once.

use std::ops::{Deref, DerefMut};
use std::path::Path;

use pgweir::demo::cluster::{Binaries, Instance, InstanceOptions, Recipe, Template};

use super::target_directory;

/// A running server with a database `postgres` and a superuser `postgres`; anybody may be anybody, unless a `pg_hba.conf`
/// says otherwise. Its log is printed when the test fails.
#[derive(Debug)]
pub(crate) struct Postgres {
    instance: Instance,
    template: Template,
}

impl Postgres {
    /// A fresh server of the version that is installed.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    /// A fresh server of another major version, which `scripts/setup.sh test` has fetched.
    pub(crate) fn major(major: u32) -> Self {
        Self::builder().major(major).start()
    }

    pub(crate) fn builder() -> PostgresBuilder {
        PostgresBuilder {
            binaries: None,
            options: InstanceOptions::default(),
        }
    }

    /// A streaming replica of this server.
    pub(crate) fn replica(&self) -> Self {
        let template = template(self.template.binaries().clone());
        let mut instance = template
            .replica_of(&self.instance, &InstanceOptions::default())
            .unwrap();
        instance.start().unwrap();
        Self { instance, template }
    }

    /// Waits until this replica has replayed what the primary has written so far.
    pub(crate) fn wait_for_replay(&self, primary: &Self) {
        self.instance.wait_for_replay(&primary.instance).unwrap();
    }

    /// Runs SQL directly, as the superuser, and returns what `psql -At` prints.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.instance.query("postgres", sql).unwrap()
    }

    /// The URL of the superuser over TCP.
    pub(crate) fn superuser_url(&self) -> String {
        self.instance.url("postgres", "postgres")
    }

    /// How many client connections the server has, [`OTHERS`].
    pub(crate) fn connections(&self) -> usize {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE {OTHERS}");
        self.instance.query(ASIDE, &count).unwrap().parse().unwrap()
    }
}

/// The condition on `pg_stat_activity` for clients' sessions, those excepted that count, and the tests' own `psql`: each takes
/// a moment to be gone from that list after its program has ended.
pub(crate) const OTHERS: &str = "backend_type = 'client backend' AND datname IS DISTINCT FROM 'template1' \
     AND NOT (application_name = 'psql' AND client_addr IS NULL)";

/// The database to count from.
pub(crate) const ASIDE: &str = "template1";

impl Deref for Postgres {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of PostgreSQL on port {}\n{}\n---",
                self.instance.port(),
                self.instance.log_tail()
            );
        }
    }
}

#[derive(Debug)]
pub(crate) struct PostgresBuilder {
    binaries: Option<Binaries>,
    options: InstanceOptions,
}

impl PostgresBuilder {
    pub(crate) fn major(mut self, major: u32) -> Self {
        self.binaries = Some(binaries_of(major));
        self
    }

    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.options.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The whole of `pg_hba.conf`. The Unix socket must stay open to `postgres` for [`Postgres::sql`].
    pub(crate) fn hba(mut self, text: &str) -> Self {
        self.options.hba = Some(text.to_owned());
        self
    }

    pub(crate) fn start(self) -> Postgres {
        let binaries = self.binaries.unwrap_or_else(|| Binaries::find().unwrap());
        let template = template(binaries);
        let mut instance = template.instance(&self.options).unwrap();
        instance.start().unwrap();
        Postgres { instance, template }
    }
}

fn template(binaries: Binaries) -> Template {
    let recipe = Recipe::trust().setting("autovacuum", "off");
    Template::cached(binaries, &recipe, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

fn binaries_of(major: u32) -> Binaries {
    let installed = Binaries::find().unwrap();
    if installed.major() == major {
        return installed;
    }
    let directory = target_directory().join(format!("postgres/{major}/bin"));
    Binaries::at(&directory).unwrap_or_else(|error| panic!("run scripts/setup.sh test first: {error}"))
}
