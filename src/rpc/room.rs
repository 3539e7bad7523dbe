//! Places for connections that nobody vouches for: the newest gets in, and the one that holds its place longest goes.
//!
//! Who means well says what it wants within a round trip, so it is long gone, or welcomed, when its turn to go would
//! come. Of the addresses the one with the most places gives one up: many connections from one machine do not keep
//! other machines out, and several nodes behind one address are served as one is.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A number of places.
pub(super) struct Room {
    places_max: usize,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    next: u64,
    /// By their order of coming. Dropping the sender asks the guest to leave.
    all: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
}

/// Given back when it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    lost: oneshot::Receiver<()>,
}

impl Room {
    pub fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self { places_max, guests: Mutex::default() })
    }

    /// A place, always; where all are taken another guest loses its own.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Place {
        let (sender, lost) = oneshot::channel();
        let mut guests = self.lock();
        if guests.all.len() >= self.places_max {
            guests.send_one_away();
        }
        let number = guests.next;
        guests.next += 1;
        guests.all.insert(number, (from, sender));
        drop(guests);
        Place { room: Arc::clone(self), number, lost }
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// The oldest of the address that has the most.
    fn send_one_away(&mut self) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        self.all.values().for_each(|(from, _)| *counts.entry(*from).or_default() += 1);
        let most = counts.values().copied().max().unwrap_or(0);
        let oldest = self.all.iter().find(|(_, (from, _))| counts.get(from) == Some(&most)).map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.all.remove(&number);
        }
    }
}

impl Place {
    /// Returns when another has got the place.
    pub async fn is_lost(&mut self) {
        // Nothing is ever sent: an error is what is waited for.
        drop((&mut self.lost).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_lost(place: &mut Place) -> bool {
        place.lost.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_oldest_goes_when_the_room_is_full() {
        let (room, from) = (Room::new(3), IpAddr::from([127, 0, 0, 1]));
        let mut places: Vec<Place> = (0..5).map(|_| room.enter(from)).collect();
        let lost: Vec<bool> = places.iter_mut().map(is_lost).collect();
        assert_eq!(lost, [true, true, false, false, false]);
        drop(places.remove(0));
        drop(places.remove(1));
        let mut last = room.enter(from);
        assert!(!is_lost(&mut last) && !is_lost(&mut places[1]), "one had left, so there was a place");
    }

    #[test]
    fn who_has_the_most_places_gives_one_up() {
        let room = Room::new(4);
        let (few, many) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut first = room.enter(few);
        let mut crowd: Vec<Place> = (0..50).map(|_| room.enter(many)).collect();
        assert!(!is_lost(&mut first), "the oldest of all, of an address with one place");
        assert_eq!(crowd.iter_mut().filter_map(|place| (!is_lost(place)).then_some(())).count(), 3);
    }
}
