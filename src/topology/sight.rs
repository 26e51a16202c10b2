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
    /// When it had its answer; microseconds.
    at: u64,
}

/// Which servers a session may read from without going back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Those that have come so far.
    AtLeast(Lsn),
    /// The one it was at last, until that was asked how far it has come. The primary always will do.
    Stay(usize),
    /// The primary alone: nobody can say how what it has seen compares with what replicas have.
    Primary,
}

impl Sight {
    /// A session has had an answer from a server at `now`: it has seen what was there, or has written itself.
    pub fn on_used(&mut self, server: usize, view: &View, now: u64) {
        let instance = view.servers.get(server).map_or(0, |server| server.instance);
        self.last = Some(Last {
            server: u16::try_from(server).unwrap_or(u16::MAX),
            instance,
            at: now,
        });
    }

    /// It wants to see no less than this, on the primary's timeline as it is now.
    pub fn raise(&mut self, lsn: Lsn, timeline: u32) {
        self.min = if self.timeline == timeline || self.timeline == 0 {
            self.min.max(lsn)
        } else {
            lsn
        };
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
        Bound::AtLeast(self.floor)
    }

    fn with_floor(&self, own: Bound, view: &View) -> Bound {
        let is_there = |place: usize| {
            let server = view.servers.get(place);
            server
                .and_then(super::ServerView::latest)
                .is_some_and(|lsn| lsn >= self.floor)
        };
        match own {
            Bound::AtLeast(lsn) => Bound::AtLeast(lsn.max(self.floor)),
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
                    self.last = None;
                }
            }
        }
        let now = view.primary_timeline();
        if self.timeline == 0 || now == Some(self.timeline) {
            Bound::AtLeast(self.min)
        } else {
            self.on_other_timeline(view)
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
        Bound::AtLeast(lsn)
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
        Bound::AtLeast(lsn)
    }

    /// The position that a session which must see what this one has seen has to wait for, if that is known.
    #[must_use]
    pub fn position(&mut self, view: &View) -> Option<Lsn> {
        match self.bound(view) {
            Bound::AtLeast(lsn) => Some(lsn),
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
