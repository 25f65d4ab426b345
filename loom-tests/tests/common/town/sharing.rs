//! Connections that serve several at a time: as `managed/sharing.rs`, and `sharing/ends.rs`.

use slabpool::model::{Begun, Joins, Way};

use crate::common::Conn;

use super::{Grant, Lease, Peer, Sleeper, Town};

impl Town {
    /// Somebody has a stream of a connection that is open to others.
    pub fn open_new(&self, peer: usize, conn: Conn) -> Begun {
        self.lease(peer, conn).release();
        self.share(peer).unwrap_or_else(|_| panic!("one is idle"))
    }

    /// One who shares, by the way without a lock.
    pub fn hinted(&self, peer: usize) -> Option<Begun> {
        let channel = self.desk(peer).hint()?;
        let number = self.channels.get(channel).streams.open().ok()?.opened();
        let stream = Begun { channel, number };
        let waiting = self.desk(peer).word.load().is_waiting();
        (!waiting || self.desk(peer).claim_stream(stream)).then_some(stream)
    }

    /// One who shares, with a stream or waiting for one.
    pub fn share(&self, peer: usize) -> Result<Begun, Sleeper> {
        let Peer { desk, group } = &self.peers[peer];
        let prospect = match desk.enter() {
            Way::Stream(stream) => return Ok(stream),
            Way::Look => match group.get_owned() {
                Some(lease) => return Ok(self.open(peer, lease)),
                None => true,
            },
            Way::Join => false,
        };
        let make = || Grant::of(peer);
        let place = desk.join_sharing((), Joins::Wanting, &self.bounds, make, prospect);
        Err(self.begin(peer, place.expect("three may wait"), true))
    }

    /// Opens a connection to all who share.
    pub fn open(&self, peer: usize, lease: Lease) -> Begun {
        let (channel, limit) = (self.channels.take().unwrap(), self.limit.get());
        // SAFETY: taken from the arena just now.
        unsafe { self.channels.get(channel).fill(lease, peer as u32, 1, limit) };
        let (desk, make) = (self.desk(peer), || Grant::of(peer));
        desk.activated(&self.channels, channel, limit, &self.bounds, make);
        Begun { channel, number: 1 }
    }

    /// As `Inner::end_stream`.
    pub fn end(&self, stream: Begun) {
        let channel = self.channels.get(stream.channel);
        // SAFETY: there is the stream.
        unsafe { channel.lease() }.conn.look();
        let desk = channel.desk();
        self.ended(stream.channel, desk, channel.streams.close().is_parked());
    }

    pub fn ended(&self, index: u32, desk: u32, parked: bool) {
        if parked {
            return self.finish(index);
        }
        let desk = self.desk(desk as usize);
        if self.channels.get(index).streams.load().has_room() {
            desk.warm(&self.channels, index);
        }
        if desk.word.load().is_waiting() {
            desk.serve_streams();
        }
    }

    /// The end of a channel that the caller has parked.
    pub fn finish(&self, index: u32) {
        let channel = self.channels.get(index);
        let (peer, draining) = (channel.desk() as usize, channel.streams.load().is_draining());
        let desk = self.desk(peer);
        desk.word.enter();
        // SAFETY: parked by the caller.
        let lease = unsafe { channel.take() };
        lease.conn.touch();
        if draining {
            lease.close()
        } else {
            lease.release()
        }
        self.look(peer);
        desk.strike(index, &self.bounds, || Grant::of(peer));
        self.channels.give(index);
        assert!(!desk.word.leave().is_empty(), "the test is about");
    }

    /// As `Inner::refresh`: asks all connections of a peer how many they serve now.
    pub fn refresh(&self, peer: usize, limit: u32) {
        let desk = self.desk(peer);
        for index in desk.hold_channels() {
            let channel = self.channels.get(index);
            // SAFETY: it is held.
            unsafe { channel.lease() }.conn.look();
            channel.streams.set_limit(limit);
            if desk.word.load().is_waiting() {
                desk.serve_streams();
            }
            self.ended(index, peer as u32, channel.streams.close().is_parked());
        }
    }
}
