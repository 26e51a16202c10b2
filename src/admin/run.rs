//! What each command does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::net::addr::ServerAddr;
use crate::pool::mail::{ClientRow, Inquiry, Mail};
use crate::pool::settings::PoolMode;
use crate::pool::shared::{PoolShared, sum};
use crate::protocol::{Report, SqlState};
use crate::relay::directory::{DatabaseEntry, Directory, is_console};
use crate::relay::hub::{Control, Shutdown};

use super::command::{Command, Ending};
use super::session::Answer;
use super::show::{self, DatabaseRow, PoolRow, Show};
use super::table::Row;
use super::{Console, DATABASE};

impl Console {
    /// Carries out a command. Cancel-safe: a pause that is no longer waited for stays.
    ///
    /// # Errors
    /// What the client is told instead.
    pub async fn run(&self, command: &Command) -> Result<Answer, Report> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        match command {
            Command::Empty => Ok(Answer::Done),
            Command::Show(show) => self.show(*show).await.map(Answer::Rows),
            Command::Help => Ok(Answer::Notice(
                Report::notice(SqlState::SUCCESSFUL_COMPLETION, "Console usage").with_detail(show::HELP),
            )),
            Command::Parameter(parameter) => Ok(Answer::Rows(vec![vec![parameter.value.into()]])),
            Command::Set => Ok(Answer::Notice(Report::notice(
                SqlState::SUCCESSFUL_COMPLETION,
                "SET ignored",
            ))),
            Command::Reload => self.reload().await,
            Command::Pause(database) => self.pause(database.as_deref()).await,
            Command::Resume(database) => self.resume(database.as_deref()).await,
            Command::Shutdown(ending) => self.shut_down(*ending).await,
            Command::KillClient(id) => self.kill_client(*id).await,
        }
    }

    async fn show(&self, show: Show) -> Result<Vec<Row>, Report> {
        let directory = self.hub.directory.load_full();
        match show {
            Show::Clients => self.clients().await,
            Show::Config => Ok(config(&directory)),
            Show::Databases => Ok(self.databases(&directory)),
            Show::Pins => self.pins().await,
            Show::Pools => Ok(self.pools()),
            Show::Replicas => Ok(super::replicas::servers(&self.hub)),
            Show::Routes => Ok(super::replicas::plans(&self.hub)),
            Show::Servers => self.servers().await,
            Show::Stats => Ok(self.stats(show::stats)),
            Show::StatsTotals => Ok(self.stats(|database, totals, _| show::counts(database, totals))),
            Show::StatsAverages => Ok(self.stats(|database, _, averages| show::counts(database, averages))),
            Show::Version => Ok(vec![vec![show::version().into()]]),
        }
    }

    fn stats(&self, row: impl Fn(&str, &super::Totals, &super::Totals) -> Row) -> Vec<Row> {
        let totals = self.totals();
        let rows = totals.iter().map(|(database, totals)| {
            let averages = self.averages.of(database);
            row(database, totals, &averages)
        });
        rows.collect()
    }

    async fn clients(&self) -> Result<Vec<Row>, Report> {
        let started = self.hub.started;
        let clients = self.client_rows().await?;
        Ok(clients
            .iter()
            .map(|client| show::client(client, started))
            .collect())
    }

    async fn pins(&self) -> Result<Vec<Row>, Report> {
        let started = self.hub.started;
        let clients = self.client_rows().await?;
        Ok(clients
            .iter()
            .flat_map(|client| show::pins(client, started))
            .collect())
    }

    async fn client_rows(&self) -> Result<Vec<ClientRow>, Report> {
        let mut clients = self.ask_workers(Inquiry::Clients).await?;
        clients.sort_by(|a, b| (&a.database, &a.user, a.id).cmp(&(&b.database, &b.user, b.id)));
        Ok(clients)
    }

    async fn servers(&self) -> Result<Vec<Row>, Report> {
        let mut servers = self.ask_workers(Inquiry::Servers).await?;
        servers.sort_by(|a, b| (&a.database, &a.user, a.id).cmp(&(&b.database, &b.user, b.id)));
        let started = self.hub.started;
        Ok(servers
            .iter()
            .map(|server| show::server(server, started))
            .collect())
    }

    /// Asks every worker, and waits for all of them.
    async fn ask_workers<T>(
        &self,
        inquiry: impl Fn(oneshot::Sender<Vec<T>>) -> Inquiry,
    ) -> Result<Vec<T>, Report> {
        let answers = async {
            let mut pending = Vec::new();
            for worker in 0..self.hub.post.workers() {
                let (reply, answer) = oneshot::channel();
                if self.hub.post.send(worker, Mail::Inquiry(inquiry(reply))).await {
                    pending.push(answer);
                }
            }
            let mut rows = Vec::new();
            for answer in pending {
                rows.extend(answer.await.unwrap_or_default());
            }
            rows
        };
        timeout(ANSWER_MAX, answers)
            .await
            .map_err(|_| Report::error(SqlState::INTERNAL_ERROR, "a worker did not answer in time"))
    }

    fn pools(&self) -> Vec<Row> {
        let now = self.hub.registry.clock.now();
        let pools = self.hub.registry.pools();
        let own = PoolRow {
            database: DATABASE,
            user: DATABASE,
            clients: self.visitors.load(Ordering::Relaxed),
            pool_mode: PoolMode::Statement.as_str(),
            ..PoolRow::default()
        };
        let mut all: BTreeMap<(&str, &str), Vec<&PoolShared>> = BTreeMap::new();
        for pool in &pools {
            all.entry((&*pool.database, &*pool.user)).or_default().push(pool);
        }
        let mut rows: Vec<PoolRow<'_>> = all.values().filter_map(|pools| pool_row(pools, now)).collect();
        rows.push(own);
        rows.sort_by(|a, b| (a.database, a.user).cmp(&(b.database, b.user)));
        rows.iter().map(PoolRow::row).collect()
    }

    fn databases(&self, directory: &Directory) -> Vec<Row> {
        let pools = self.hub.registry.pools();
        let names: BTreeSet<&str> = directory
            .databases
            .keys()
            .map(String::as_str)
            // Those that the wildcard serves are known since somebody asked for them.
            .chain(pools.iter().map(|pool| &*pool.database))
            .chain([DATABASE])
            .collect();
        let row = |name| match directory.database(name) {
            _ if name == DATABASE => Some(self.own_database()),
            Some(entry) => Some(self.database(name, entry, directory)),
            None => None,
        };
        names.into_iter().filter_map(row).collect()
    }

    fn own_database(&self) -> Row {
        DatabaseRow {
            name: DATABASE,
            database: DATABASE,
            user: Some(DATABASE),
            pool_mode: PoolMode::Statement.as_str(),
            clients: self.visitors.load(Ordering::Relaxed),
            ..DatabaseRow::default()
        }
        .row()
    }

    fn database(&self, name: &str, entry: &DatabaseEntry, directory: &Directory) -> Row {
        let settings = (directory.settings)(name, entry.user.as_deref().unwrap_or_default());
        let (connections, clients) = self.hub.registry.database_load(name);
        let hosts: Vec<String> = entry.hosts.iter().map(host).collect();
        DatabaseRow {
            name,
            host: Some(&hosts.join(",")),
            port: entry.hosts.first().map_or(0, ServerAddr::port),
            database: entry.database.as_deref().unwrap_or(name),
            user: entry.user.as_deref(),
            pool_size: settings.pool_size,
            min_pool_size: settings.min_pool_size,
            reserve_pool_size: settings.reserve_pool_size,
            server_lifetime: settings.server_lifetime.as_secs(),
            pool_mode: settings.pool_mode.as_str(),
            load_balance_hosts: load_balance_hosts(entry.hosts.len(), entry.shuffled),
            connections_max: settings.max_db_connections,
            connections,
            clients_max: settings.max_db_clients,
            clients,
            is_paused: self.hub.registry.is_paused(Some(name)),
        }
        .row()
    }

    async fn reload(&self) -> Result<Answer, Report> {
        self.wish(Control::Reload).await?.map_err(|problems| {
            Report::error(
                SqlState::CONFIG_FILE_ERROR,
                "RELOAD failed, see logs for additional details",
            )
            .with_detail(problems)
            .with_hint("Nothing has changed.")
        })?;
        Ok(Answer::Done)
    }

    async fn pause(&self, database: Option<&str>) -> Result<Answer, Report> {
        if self.hub.registry.is_paused(None) {
            return Err(not_now("already suspended/paused"));
        }
        if let Some(name) = database {
            self.must_know(name, "pause")?;
        }
        let wish = |reply| Control::Pause(database.map(ToOwned::to_owned), reply);
        self.wish(wish).await?.map_err(not_now)?;
        Ok(Answer::Done)
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// There is none.
    pub async fn resume(&self, database: Option<&str>) -> Result<Answer, Report> {
        if let Some(name) = database {
            self.must_know(name, "resume")?;
            if !self.hub.registry.is_paused(Some(name)) {
                return Err(not_now(format!("database {name} is not paused")));
            }
        }
        let wish = |reply| Control::Resume(database.map(ToOwned::to_owned), reply);
        self.wish(wish).await?.map_err(not_now)?;
        Ok(Answer::Done)
    }

    fn must_know(&self, name: &str, verb: &str) -> Result<(), Report> {
        if is_console(name) {
            return Err(Report::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("cannot {verb} admin db: {name}"),
            ));
        }
        // A database that is gone from the configuration may still be paused.
        let is_known =
            self.hub.directory.load().database(name).is_some() || self.hub.registry.is_paused(Some(name));
        if is_known {
            return Ok(());
        }
        Err(Report::error(
            SqlState::INVALID_DATABASE,
            format!("no such database: {name}"),
        ))
    }

    async fn shut_down(&self, ending: Ending) -> Result<Answer, Report> {
        let how = match ending {
            Ending::Now => Shutdown::Now,
            Ending::Drained => Shutdown::Drain,
        };
        let sent = self.hub.control.send(Control::Shutdown(how)).await;
        sent.map_err(|_| gone())?;
        if ending == Ending::Now {
            // The connection stays open until the process ends: so those who wait for the end know when it has come.
            std::future::pending::<()>().await;
        }
        Ok(Answer::Done)
    }

    async fn kill_client(&self, id: u64) -> Result<Answer, Report> {
        let kill = async {
            for worker in 0..self.hub.post.workers() {
                let (reply, found) = oneshot::channel();
                let mail = Mail::Inquiry(Inquiry::KillClient(id, reply));
                if self.hub.post.send(worker, mail).await && found.await.unwrap_or(false) {
                    return true;
                }
            }
            false
        };
        match timeout(ANSWER_MAX, kill).await {
            Ok(true) => Ok(Answer::Done),
            Ok(false) => Err(Report::error(SqlState::UNDEFINED_OBJECT, "client not found")),
            Err(_) => Err(Report::error(
                SqlState::INTERNAL_ERROR,
                "a worker did not answer in time",
            )),
        }
    }

    /// Asks the application for something, and waits for its answer.
    async fn wish(
        &self,
        control: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Control,
    ) -> Result<Result<(), String>, Report> {
        let (reply, answer) = oneshot::channel();
        self.hub.control.send(control(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

fn config(directory: &Directory) -> Vec<Row> {
    let changeable = |is_so| if is_so { "yes" } else { "no" };
    let row = |(key, value, default, is_changeable): &(&'static str, String, String, bool)| {
        vec![
            (*key).into(),
            value.as_str().into(),
            default.as_str().into(),
            changeable(*is_changeable).into(),
        ]
    };
    directory.rows.iter().map(row).collect()
}

/// A user's pools at a database, one for each server, as one: tools know no other.
fn pool_row<'a>(pools: &[&'a PoolShared], now: u64) -> Option<PoolRow<'a>> {
    let pool = pools.iter().min_by_key(|pool| pool.place)?;
    let settings = pool.settings();
    let target = pool.target.load();
    let mut row = PoolRow {
        database: &pool.database,
        user: &pool.user,
        cancelling: pools
            .iter()
            .map(|pool| pool.cancelling.load(Ordering::Relaxed))
            .sum(),
        pool_mode: settings.pool_mode.as_str(),
        load_balance_hosts: load_balance_hosts(target.hosts.len(), target.shuffled),
        ..PoolRow::default()
    };
    let mut clients = 0;
    for cell in pools.iter().flat_map(|pool| pool.cells()) {
        clients += sum(&[&cell.clients]);
        row.waiting += sum(&[&cell.waiting]);
        row.active += sum(&[&cell.active]);
        row.idle += sum(&[&cell.idle]);
        row.tested += sum(&[&cell.tested]);
        row.connecting += sum(&[&cell.connecting]);
        let since = cell.oldest.load(Ordering::Relaxed);
        if since != 0 {
            row.max_wait = row.max_wait.max(now.saturating_sub(since));
        }
    }
    row.clients = clients.saturating_sub(row.waiting);
    Some(row)
}

fn load_balance_hosts(hosts: usize, is_shuffled: bool) -> Option<&'static str> {
    match (hosts, is_shuffled) {
        (0 | 1, _) => None,
        (_, true) => Some("round-robin"),
        (_, false) => Some("disable"),
    }
}

fn host(address: &ServerAddr) -> String {
    match address {
        ServerAddr::Tcp { host, .. } => host.to_string(),
        ServerAddr::Unix { directory, .. } => directory.display().to_string(),
    }
}

fn not_now(message: impl Into<std::borrow::Cow<'static, str>>) -> Report {
    Report::error(SqlState::OBJECT_NOT_IN_STATE, message)
}

fn gone() -> Report {
    Report::error(SqlState::CANNOT_CONNECT_NOW, "pooler is shutting down")
}

/// How long workers may take to say what they have: they answer between two passes over their sockets.
const ANSWER_MAX: Duration = Duration::from_secs(10);
