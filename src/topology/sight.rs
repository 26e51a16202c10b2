//! What a session has seen of a database: it never goes back behind that.

use super::lsn::Lsn;
use super::view::View;

/// What a session has seen. Begins with nothing: any usable replica will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// It has seen what is at or before this position.
    min: Lsn,
    /// The timeline of that position; 0: of any.
    timeline: u32,
    /// Whose position that is, and which start of it: it has it, whatever it says of itself.
    home: Option<(u16, u32)>,
    /// Where it was last, until a later sample says how far that had come.
    last: Option<Last>,
    /// What others have seen, and it wants to see too; on the timeline that is written.
    floor: Lsn,
}

/// The server that a session used last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    server: u16,
    instance: u32,
    /// When it asked, and had its answer; microseconds. The server has not started anew in between.
    since: u64,
    at: u64,
    /// When it had the first answer since it has written last: what came of that is in every position of later questions.
    first_at: u64,
}

/// A use of a server that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    server: u16,
    instance: u32,
    since: u64,
    does: Does,
}

/// What a use is known to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    Read,
    Anything,
}

impl Use {
    /// Something is about to be sent to a server.
    #[must_use]
    pub fn begin(server: usize, does: Does, view: &View, now: u64) -> Self {
        Self {
            does,
            server: u16::try_from(server).unwrap_or(u16::MAX),
            instance: view.servers.get(server).map_or(0, |server| server.instance),
            since: now,
        }
    }
}

/// Which servers a session may read from without going back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Those that have come so far.
    AtLeast(Need),
    /// The one it was at last, until that was asked how far it has come. The primary always will do.
    Stay(usize),
    /// The primary alone: nobody can say how what it has seen compares with what replicas have.
    Primary,
}

/// What a server must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    pub lsn: Lsn,
    /// That is a position on the timeline that is written now; where nobody writes, on this one, 0 being any.
    pub timeline: u32,
    /// This one has it, whatever it says of itself.
    pub home: Option<usize>,
}

impl Sight {
    /// A session has had an answer from a server at `now`: it has seen what was there, or has written itself.
    pub fn on_used(&mut self, used: Use, now: u64) {
        let is_same = |last: &Last| (last.server, last.instance) == (used.server, used.instance);
        let before = self.last.filter(|last| used.does == Does::Read && is_same(last));
        self.last = Some(Last {
            server: used.server,
            instance: used.instance,
            since: used.since,
            at: now,
            first_at: before.map_or(now, |last| last.first_at),
        });
    }

    /// A position that has all that the session has written where it was last, if that was asked since. A session that reads there
    /// again and again has always read something since, of which nobody knows how far it reaches.
    #[must_use]
    pub fn written(&self, view: &View) -> Option<Need> {
        let last = self.last?;
        let server = view.servers.get(usize::from(last.server))?;
        let lsn = server
            .position_after(last.first_at)
            .filter(|_| server.instance == last.instance)?;
        Some(Need {
            lsn: lsn.max(self.min),
            timeline: server.timeline,
            home: None,
        })
    }

    /// Whether it may read through a connection of a server that was chosen for it, opened at `connected_at`. One that is newer
    /// than what is known of the server may be of another start of it.
    #[must_use]
    pub fn allows(&self, place: usize, view: &View, connected_at: u64) -> bool {
        if self.last.is_none() && self.min == Lsn::default() {
            return true;
        }
        let is_known = view
            .servers
            .get(place)
            .is_some_and(|server| server.vouches_for(connected_at));
        let is_same = |last: Last| usize::from(last.server) == place && connected_at < last.since;
        is_known || self.last.is_some_and(is_same)
    }

    /// It wants to see no less than this, on the primary's timeline as it is now.
    pub fn raise(&mut self, lsn: Lsn, timeline: u32) {
        let is_same = self.timeline == timeline || self.timeline == 0;
        if !is_same || lsn > self.min {
            self.min = lsn;
            self.home = None;
        }
        self.timeline = timeline;
    }

    /// It wants to see no less than this, whatever it has seen itself.
    pub fn set_floor(&mut self, floor: Lsn) {
        self.floor = floor;
    }

    /// What holds for its next read.
    pub fn bound(&mut self, view: &View) -> Bound {
        let own = self.own_bound(view);
        self.with_floor(own, view)
    }

    /// What holds whatever it has seen itself.
    #[must_use]
    pub fn floor(&self) -> Bound {
        Bound::AtLeast(Need {
            lsn: self.floor,
            ..Need::default()
        })
    }

    fn with_floor(&self, own: Bound, view: &View) -> Bound {
        let is_there = |place: usize| {
            let server = view.servers.get(place);
            server
                .and_then(super::ServerView::latest)
                .is_some_and(|lsn| lsn >= self.floor)
        };
        match own {
            Bound::AtLeast(need) if self.floor > need.lsn => Bound::AtLeast(Need {
                lsn: self.floor,
                home: None,
                ..need
            }),
            Bound::AtLeast(_) => own,
            Bound::Stay(place) if self.floor == Lsn::default() || is_there(place) => own,
            Bound::Stay(_) | Bound::Primary => Bound::Primary,
        }
    }

    /// What holds by what it has seen itself.
    fn own_bound(&mut self, view: &View) -> Bound {
        if let Some(last) = self.last {
            let place = usize::from(last.server);
            let Some(server) = view.servers.get(place) else {
                return Bound::Primary;
            };
            if server.instance != last.instance {
                // It may have gone back: only the primary is sure to have what was seen there, and its later position.
                return self.after_primary(view, last);
            }
            match server.position_after(last.at) {
                None => return Bound::Stay(place),
                Some(lsn) => {
                    self.raise(lsn, server.timeline);
                    // What was needed before is there too, or the session would not have been there.
                    self.home = Some((last.server, last.instance));
                    self.last = None;
                }
            }
        }
        match view.primary_timeline() {
            Some(now) if self.timeline != 0 && self.timeline != now => self.on_other_timeline(view),
            Some(_) | None => Bound::AtLeast(self.need(view)),
        }
    }

    fn need(&self, view: &View) -> Need {
        let home = self.home.and_then(|(place, instance)| {
            let place = usize::from(place);
            let server = view.servers.get(place)?;
            (server.instance == instance && server.timeline == self.timeline).then_some(place)
        });
        Need {
            lsn: self.min,
            timeline: self.timeline,
            home,
        }
    }

    /// What was seen on a server that is not what it was is on the primary, if anywhere: how far that came since then is enough.
    fn after_primary(&mut self, view: &View, last: Last) -> Bound {
        let primary = view.primary.and_then(|primary| view.servers.get(primary));
        let Some((lsn, timeline)) =
            primary.and_then(|server| Some((server.position_after(last.at)?, server.timeline)))
        else {
            return Bound::Primary;
        };
        self.last = None;
        self.min = lsn;
        self.timeline = timeline;
        self.home = None;
        Bound::AtLeast(self.need(view))
    }

    /// Positions are comparable on one timeline only. The first of a new one stands for everything that came before it.
    fn on_other_timeline(&mut self, view: &View) -> Bound {
        let primary = view.primary.and_then(|primary| view.servers.get(primary));
        let Some((lsn, timeline)) = primary.and_then(|server| Some((server.latest()?, server.timeline)))
        else {
            return Bound::Primary;
        };
        self.min = lsn;
        self.timeline = timeline;
        self.home = None;
        Bound::AtLeast(self.need(view))
    }

    /// The position that a session which must see what this one has seen has to wait for, if that is known.
    #[must_use]
    pub fn position(&mut self, view: &View) -> Option<Lsn> {
        match self.bound(view) {
            Bound::AtLeast(need) => Some(need.lsn),
            Bound::Stay(_) | Bound::Primary => None,
        }
    }
}

impl View {
    /// The timeline that is written now.
    #[must_use]
    pub fn primary_timeline(&self) -> Option<u32> {
        self.servers.get(self.primary?).map(|server| server.timeline)
    }
}
