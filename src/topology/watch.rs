//! From what servers answer to a [`View`].

use std::time::Duration;

use super::health::Health;
use super::lsn::Lsn;
use super::view::{Role, Sample, Vacancy, View};

/// Looks after the servers of one database: told what they have answered, it says what follows.
#[derive(Debug)]
pub struct Watch {
    health: Health,
    view: View,
    /// What is known beside the view, by place.
    states: Vec<State>,
    conflict: Conflict,
    /// The highest timeline that any primary was on.
    newest: u32,
    /// Whose positions replicas are measured by.
    measure: Option<(usize, u32)>,
    /// The cluster that this is about: that of the first server, or of the first primary while that is not heard of.
    system: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Questions without an answer in a row.
    failures: u32,
    standing: Standing,
    started_at: i64,
    /// As in [`Answer`].
    system: u64,
    /// The oldest position of the primary that it is known not to have replayed. It is kept until it has: the primary's own
    /// samples are too few for that.
    missing: Option<Sample>,
}

/// Whether a replica keeps up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Current,
    /// It was over the limit, and is not far enough under it yet.
    Behind,
}

/// Whether it is clear who is primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    None,
    /// Two servers take writes, on the same timeline: nobody can say which of them is right.
    TwoPrimaries,
    /// One takes writes, on a timeline that another has left behind: what it is told would be lost.
    Outdated,
}

/// What a server has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked; microseconds.
    pub asked_at: u64,
    /// `system_identifier`: the same on a primary and its standbys, and on no others.
    pub system: u64,
    pub is_in_recovery: bool,
    pub timeline: u32,
    /// What it has written, or replayed.
    pub lsn: Lsn,
    /// What may be seen there: see [`Sample`].
    pub shown: Lsn,
    /// `pg_postmaster_start_time()`, microseconds.
    pub started_at: i64,
}

impl Watch {
    /// Begins with servers of which nothing is known.
    #[must_use]
    pub fn new(view: View, health: Health) -> Self {
        Self {
            health,
            states: vec![State::default(); view.servers.len()],
            newest: view
                .servers
                .iter()
                .filter(|server| server.role != Role::Stranger)
                .map(|server| server.timeline)
                .max()
                .unwrap_or(0),
            view,
            conflict: Conflict::None,
            measure: None,
            system: None,
        }
    }

    /// Other settings from now on.
    pub fn set_health(&mut self, health: Health) {
        self.health = health;
    }

    /// A server has answered.
    pub fn on_answer(&mut self, place: usize, answer: &Answer) {
        let (Some(server), Some(state)) = (self.view.servers.get_mut(place), self.states.get_mut(place))
        else {
            return;
        };
        state.failures = 0;
        state.system = answer.system;
        if place == 0 || (self.system.is_none() && !answer.is_in_recovery) {
            self.system = Some(answer.system);
        }
        let role = if self.system.is_some_and(|system| system != answer.system) {
            // What another cluster has is neither fresh nor old.
            Role::Stranger
        } else if answer.is_in_recovery {
            Role::Replica
        } else {
            Role::Primary
        };
        // A standby that is promoted goes on from where it was; one that starts anew may show less than before.
        let has_restarted = state.started_at != answer.started_at;
        let goes_back = server.latest().is_some_and(|latest| answer.lsn < latest);
        if has_restarted || goes_back {
            server.instance = server.instance.wrapping_add(1);
        }
        // A standby that nobody streams to knows its timeline by what it has on disk, which comes late.
        let timeline = match role {
            Role::Replica if !has_restarted => answer.timeline.max(server.timeline),
            Role::Replica | Role::Primary | Role::Unknown | Role::Stranger => answer.timeline,
        };
        if has_restarted || goes_back || server.timeline != timeline {
            server.samples.clear();
        }
        state.started_at = answer.started_at;
        server.role = role;
        server.timeline = timeline;
        server.push(Sample {
            asked_at: answer.asked_at,
            lsn: answer.lsn,
            shown: answer.shown,
        });
        self.know_strangers();
        self.elect();
        self.judge(answer.asked_at);
    }

    /// Who was heard of before it was known what cluster this is.
    fn know_strangers(&mut self) {
        let Some(system) = self.system else { return };
        for (server, state) in self.view.servers.iter_mut().zip(&self.states) {
            let is_heard = matches!(server.role, Role::Primary | Role::Replica);
            if is_heard && state.system != system {
                server.role = Role::Stranger;
            }
        }
    }

    /// A connection to a server was lost. Perhaps it starts anew, and a standby that does shows less than before at first: nothing
    /// of it is known until it has answered, though it may take reads.
    pub fn on_lost(&mut self, place: usize) {
        if let Some(server) = self.view.servers.get_mut(place) {
            server.instance = server.instance.wrapping_add(1);
            server.samples.clear();
        }
    }

    /// A server has not answered.
    pub fn on_failure(&mut self, place: usize) {
        let Some(state) = self.states.get_mut(place) else {
            return;
        };
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.health.failover_threshold
            && let Some(server) = self.view.servers.get_mut(place)
        {
            server.role = Role::Unknown;
            server.is_usable = false;
        }
        self.elect();
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    #[must_use]
    pub fn conflict(&self) -> Conflict {
        self.conflict
    }

    /// Whether to ask a server soon again: it has not answered and is not lost yet, or a primary is looked for.
    #[must_use]
    pub fn is_urgent(&self, place: usize) -> bool {
        let failures = self.states.get(place).map_or(0, |state| state.failures);
        let is_in_doubt = failures > 0 && failures < self.health.failover_threshold;
        is_in_doubt || self.view.writes_at().is_none()
    }

    /// How long a server is asked less often, or is not heard of.
    #[must_use]
    pub fn is_lost(&self, place: usize) -> bool {
        let is_unknown = |server: &super::ServerView| server.role == Role::Unknown;
        self.view.servers.get(place).is_none_or(is_unknown)
    }

    /// The primary is whoever is out of recovery, on the highest timeline there ever was. One on an older timeline was succeeded by
    /// a server that is not heard of now.
    fn elect(&mut self) {
        let primaries = || {
            let all = self.view.servers.iter().enumerate();
            all.filter(|(_, server)| server.role == Role::Primary)
        };
        let highest = primaries().map(|(_, server)| server.timeline).max();
        self.newest = self.newest.max(highest.unwrap_or(0));
        let mut first = primaries().filter(|(_, server)| server.timeline == self.newest);
        let primary = first.next().map(|(place, _)| place);
        let is_alone = first.next().is_none();
        self.conflict = match (primary, highest) {
            (Some(_), _) if !is_alone => Conflict::TwoPrimaries,
            (None, Some(_)) => Conflict::Outdated,
            _ => Conflict::None,
        };
        let first_is_replica = self
            .view
            .servers
            .first()
            .is_some_and(|server| server.role == Role::Replica);
        let was_heard = self.view.primary.or(primary).is_some() || self.view.vacancy != Vacancy::Unheard;
        self.view.primary = primary.filter(|_| is_alone);
        self.view.vacancy = match self.conflict {
            Conflict::TwoPrimaries => Vacancy::TwoPrimaries,
            Conflict::Outdated => Vacancy::Lost,
            Conflict::None if was_heard || first_is_replica => Vacancy::Lost,
            Conflict::None => Vacancy::Unheard,
        };
    }

    /// Which replicas take reads: those that are not too far behind.
    fn judge(&mut self, now: u64) {
        let primary = self
            .view
            .primary
            .and_then(|place| Some((place, self.view.servers.get(place)?)));
        let written: Vec<Sample> = primary
            .map(|(_, server)| server.samples.clone())
            .unwrap_or_default();
        let measure = primary.map(|(place, server)| (place, server.timeline));
        if measure.is_some() && measure != self.measure {
            // Positions of another timeline say nothing.
            self.measure = measure;
            self.states.iter_mut().for_each(|state| state.missing = None);
        }
        let max = self.health.max_lag;
        for (server, state) in self.view.servers.iter_mut().zip(&mut self.states) {
            if server.role != Role::Replica {
                server.is_usable = false;
                server.missing_since = None;
                continue;
            }
            if let Some(replayed) = server.latest() {
                let missing = state.missing.filter(|sample| sample.lsn > replayed);
                state.missing =
                    missing.or_else(|| written.iter().find(|sample| sample.lsn > replayed).copied());
            }
            server.missing_since = state.missing.map(|sample| sample.asked_at);
            let lag = state.missing.map_or(Duration::ZERO, |sample| age(sample, now));
            // Back in only when it has clearly caught up, so that one at the limit does not come and go.
            let limit = match state.standing {
                Standing::Current => max,
                Standing::Behind => max / 2,
            };
            state.standing = if !max.is_zero() && lag > limit {
                Standing::Behind
            } else {
                Standing::Current
            };
            server.is_usable = state.standing == Standing::Current;
        }
    }
}

/// How long ago a position was asked for.
fn age(sample: Sample, now: u64) -> Duration {
    Duration::from_micros(now.saturating_sub(sample.asked_at))
}

#[cfg(test)]
mod tests {
    use super::super::ServerView;
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn watch(count: usize) -> Watch {
        let unknown = |index: usize| ServerView {
            name: format!("host{index}:5432").into(),
            role: Role::Unknown,
            is_usable: false,
            instance: 0,
            timeline: 0,
            weight: 1,
            missing_since: None,
            samples: Vec::new(),
        };
        let view = View {
            primary: None,
            vacancy: Vacancy::Unheard,
            servers: (0..count).map(unknown).collect(),
        };
        Watch::new(view, Health::default())
    }

    fn says(role: Role, timeline: u32, lsn: u64, asked_at: u64) -> Answer {
        Answer {
            asked_at,
            system: 1,
            is_in_recovery: role == Role::Replica,
            timeline,
            lsn: Lsn(lsn),
            shown: Lsn(lsn),
            started_at: 7,
        }
    }

    #[test]
    fn the_primary_is_the_one_out_of_recovery_on_the_highest_timeline() {
        let mut watch = watch(3);
        watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
        assert_eq!(watch.view().primary, None);
        watch.on_answer(0, &says(Role::Primary, 1, 10, SECOND));
        assert_eq!(watch.view().primary, Some(0));
        assert!(watch.view().servers[1].is_usable && !watch.view().servers[0].is_usable);
        // Promoted; the old one does not know it yet.
        watch.on_answer(1, &says(Role::Primary, 2, 11, 2 * SECOND));
        assert_eq!(
            (watch.view().primary, watch.conflict()),
            (Some(1), Conflict::None)
        );
        watch.on_answer(2, &says(Role::Primary, 2, 11, 2 * SECOND));
        assert_eq!(
            (watch.view().primary, watch.conflict()),
            (None, Conflict::TwoPrimaries)
        );
    }

    #[test]
    fn a_primary_that_was_succeeded_is_none_any_more_even_if_its_successor_is_lost() {
        let mut watch = watch(2);
        watch.on_answer(0, &says(Role::Primary, 1, 10, SECOND));
        watch.on_answer(1, &says(Role::Primary, 2, 11, 2 * SECOND));
        for _ in 0..3 {
            watch.on_failure(1);
        }
        watch.on_answer(0, &says(Role::Primary, 1, 12, 3 * SECOND));
        assert_eq!(
            (watch.view().writes_at(), watch.conflict()),
            (None, Conflict::Outdated)
        );
        watch.on_answer(0, &says(Role::Primary, 3, 12, 4 * SECOND));
        assert_eq!(
            (watch.view().writes_at(), watch.conflict()),
            (Some(0), Conflict::None)
        );
    }

    #[test]
    fn a_server_is_lost_after_as_many_failures_in_a_row_as_are_set() {
        let mut watch = watch(2);
        watch.on_answer(0, &says(Role::Primary, 1, 10, SECOND));
        watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
        watch.on_failure(0);
        watch.on_failure(0);
        watch.on_answer(0, &says(Role::Primary, 1, 10, 2 * SECOND));
        for _ in 0..2 {
            watch.on_failure(0);
            assert_eq!(watch.view().primary, Some(0));
        }
        watch.on_failure(0);
        assert_eq!(
            (watch.view().primary, watch.view().vacancy),
            (None, Vacancy::Lost)
        );
        assert!(watch.is_lost(0) && watch.view().servers[1].is_usable);
    }

    #[test]
    fn a_replica_that_is_too_far_behind_takes_no_reads_until_it_has_caught_up() {
        let mut watch = watch(2);
        watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
        for second in 1..=12 {
            watch.on_answer(0, &says(Role::Primary, 1, 10 + second, second * SECOND));
        }
        let mut at = |lsn, second| {
            watch.on_answer(1, &says(Role::Replica, 1, lsn, second * SECOND));
            watch.view().servers[1].is_usable
        };
        // Not replayed: what was written first, eleven seconds ago.
        assert!(!at(10, 12));
        // Six seconds behind is under the limit, and not far enough.
        assert!(!at(15, 12));
        assert!(at(18, 12));
        assert!(at(12, 13));
    }

    #[test]
    fn a_replica_that_replays_nothing_falls_behind_however_often_the_primary_is_asked() {
        for pause in [SECOND / 100, SECOND / 10, SECOND] {
            let mut watch = watch(2);
            watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
            let mut now = SECOND;
            while now < 13 * SECOND {
                watch.on_answer(0, &says(Role::Primary, 1, 11 + now, now));
                watch.on_answer(1, &says(Role::Replica, 1, 10, now));
                now += pause;
            }
            assert!(!watch.view().servers[1].is_usable, "{pause}");
        }
    }

    #[test]
    fn a_limit_of_minutes_is_one() {
        let mut watch = watch(2);
        watch.set_health(Health {
            max_lag: Duration::from_secs(300),
            ..Health::default()
        });
        watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
        let mut usable = Vec::new();
        for second in 1..400 {
            watch.on_answer(0, &says(Role::Primary, 1, 10 + second, second * SECOND));
            watch.on_answer(1, &says(Role::Replica, 1, 10, second * SECOND));
            usable.push(watch.view().servers[1].is_usable);
        }
        assert!(usable[290] && !usable[310]);
    }

    #[test]
    fn who_was_primary_before_is_not_again_while_its_successor_is_lost() {
        let mut watch = watch(3);
        watch.on_answer(0, &says(Role::Primary, 1, 10, SECOND));
        watch.on_answer(1, &says(Role::Primary, 2, 11, SECOND));
        assert_eq!(watch.view().primary, Some(1));
        for _ in 0..3 {
            watch.on_failure(1);
            watch.on_answer(0, &says(Role::Primary, 1, 12, 2 * SECOND));
        }
        assert_eq!((watch.view().primary, watch.view().writes_at()), (None, None));
        watch.on_answer(2, &says(Role::Primary, 3, 12, 3 * SECOND));
        assert_eq!(watch.view().primary, Some(2));
    }

    #[test]
    fn a_server_of_another_cluster_is_neither_primary_nor_replica() {
        let mut watch = watch(3);
        let other = |role| Answer {
            system: 2,
            ..says(role, 5, 99, SECOND)
        };
        watch.on_answer(2, &other(Role::Replica));
        watch.on_answer(0, &says(Role::Primary, 1, 10, SECOND));
        assert_eq!(watch.view().servers[2].role, Role::Stranger);
        watch.on_answer(1, &other(Role::Primary));
        watch.on_answer(2, &other(Role::Replica));
        assert_eq!(watch.view().primary, Some(0));
        assert!(!watch.view().servers[2].is_usable);
        assert_eq!(watch.view().servers[2].role, Role::Stranger);
        // All were made anew.
        watch.on_answer(0, &other(Role::Primary));
        watch.on_answer(2, &other(Role::Replica));
        assert!(watch.view().servers[2].is_usable);
    }

    #[test]
    fn a_server_whose_connection_was_lost_may_have_started_anew() {
        let mut watch = watch(2);
        watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
        let before = watch.view().servers[1].instance;
        watch.on_lost(1);
        let server = &watch.view().servers[1];
        assert_ne!(server.instance, before);
        assert!(server.samples.is_empty() && server.is_usable);
    }

    #[test]
    fn a_standby_does_not_leave_a_timeline_that_it_has_followed() {
        let mut watch = watch(2);
        for (timeline, at) in [(1, 1), (2, 2), (1, 3)] {
            watch.on_answer(1, &says(Role::Replica, timeline, 10 + at, at * SECOND));
        }
        assert_eq!(watch.view().servers[1].timeline, 2);
        assert_eq!(watch.view().servers[1].samples.len(), 2);
    }

    #[test]
    fn an_idle_primary_leaves_nobody_behind() {
        let mut watch = watch(2);
        watch.on_answer(0, &says(Role::Primary, 1, 10, SECOND));
        watch.on_answer(1, &says(Role::Replica, 1, 10, SECOND));
        watch.on_answer(0, &says(Role::Primary, 1, 10, 1000 * SECOND));
        watch.on_answer(1, &says(Role::Replica, 1, 10, 1000 * SECOND));
        assert!(watch.view().servers[1].is_usable);
    }

    #[test]
    fn a_server_that_has_started_anew_is_another_instance() {
        let mut watch = watch(1);
        watch.on_answer(0, &says(Role::Replica, 1, 10, SECOND));
        let before = watch.view().servers[0].instance;
        watch.on_answer(0, &says(Role::Replica, 1, 12, 2 * SECOND));
        assert_eq!(watch.view().servers[0].instance, before);
        assert_eq!(watch.view().servers[0].samples.len(), 2);
        let anew = Answer {
            started_at: 8,
            ..says(Role::Replica, 1, 12, 3 * SECOND)
        };
        watch.on_answer(0, &anew);
        assert_ne!(watch.view().servers[0].instance, before);
        assert_eq!(watch.view().servers[0].samples.len(), 1);
    }
}
