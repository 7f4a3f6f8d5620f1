//! Who is connected: few at a time, and the newest always. Whoever holds connections open without using them, or
//! makes ever new ones, pushes out its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use tokio::task::AbortHandle;

/// Connections at most: no more descriptors than any process may have.
const MOST: usize = 64;

/// Connections of one peer at most.
const MOST_OF_PEER: usize = 16;

/// Scrapes whose text is still held for a reader: with a thousand trunks one has some 17 MiB.
const MOST_TEXTS: u64 = 8;

/// The open connections.
#[derive(Debug)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Debug)]
struct Table {
    next: u64,
    /// The oldest first.
    open: BTreeMap<u64, Connection>,
    pushed_out: Counter,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    /// Its request is there.
    asked: bool,
    /// The number of the scrape that it is being sent.
    text: Option<u64>,
    task: AbortHandle,
}

/// One connection's place among them, as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    all: Arc<Connections>,
}

impl Connections {
    /// None yet. Those that have to make way for others are counted in `pushed_out`.
    pub(super) fn new(pushed_out: Counter) -> Self {
        Self(Mutex::new(Table { next: 0, open: BTreeMap::new(), pushed_out }))
    }

    /// Starts to serve a connection from `peer`, in the place of another one if there are too many.
    pub(super) fn admit<F>(self: &Arc<Self>, peer: IpAddr, serve: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let peer = party(peer);
        let mut table = self.lock();
        table.make_room(peer);
        let number = table.next;
        table.next += 1;
        // Within the lock: it must not be over before it is in the table.
        let task = tokio::spawn(serve(Place { number, all: Arc::clone(self) })).abort_handle();
        table.open.insert(number, Connection { peer, asked: false, text: None, task });
    }

    /// Closes the connection that is missed least, if there is one: somebody needs its descriptor.
    pub(super) fn push_out(&self) -> bool {
        let mut table = self.lock();
        let victim = least_missed(table.open.iter());
        table.push_out(victim)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The request is there.
    pub(super) fn asked(&self) {
        if let Some(connection) = self.all.lock().open.get_mut(&self.number) {
            connection.asked = true;
        }
    }

    /// The answer is scrape number `text`. Those who are still being sent much older ones have had their time.
    pub(super) fn is_sent(&self, text: u64) {
        let mut table = self.all.lock();
        if let Some(connection) = table.open.get_mut(&self.number) {
            connection.text = Some(text);
        }
        let late = |connection: &Connection| connection.text.is_some_and(|its| its + MOST_TEXTS <= text);
        while let Some(victim) = table.open.iter().find(|(_, it)| late(it)).map(|(number, _)| *number) {
            table.push_out(Some(victim));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.number);
    }
}

impl Table {
    /// For one more of `peer`.
    fn make_room(&mut self, peer: IpAddr) {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for connection in self.open.values() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        let victim = if counts.get(&peer).is_some_and(|count| *count >= MOST_OF_PEER) {
            least_missed(self.open.iter().filter(|(_, it)| it.peer == peer))
        } else if self.open.len() >= MOST {
            let most = counts.values().max();
            least_missed(self.open.iter().filter(|(_, it)| counts.get(&it.peer) == most))
        } else {
            return;
        };
        self.push_out(victim);
    }

    fn push_out(&mut self, number: Option<u64>) -> bool {
        let Some(connection) = number.and_then(|number| self.open.remove(&number)) else { return false };
        connection.task.abort();
        self.pushed_out.inc();
        true
    }
}

/// The oldest that has not asked for anything, else the oldest.
fn least_missed<'a>(connections: impl Iterator<Item = (&'a u64, &'a Connection)>) -> Option<u64> {
    connections.min_by_key(|(number, it)| (it.asked, **number)).map(|(number, _)| *number)
}

/// Whom an address stands for: an IPv6 host has as many as it likes of its network, and this host all of 127/8.
fn party(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections that never end by themselves, by number: (peer, asked).
    async fn open(peers: &[&str], asked: &[usize]) -> (Vec<u64>, u64) {
        let (all, pushed_out) = none();
        for (number, peer) in peers.iter().enumerate() {
            let asked = asked.contains(&number);
            all.admit(peer.parse().unwrap(), |place| async move {
                if asked {
                    place.asked();
                }
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
        }
        let left = all.lock().open.keys().copied().collect();
        (left, pushed_out.get())
    }

    fn none() -> (Arc<Connections>, Counter) {
        let pushed_out = Counter::default();
        (Arc::new(Connections::new(pushed_out.clone())), pushed_out)
    }

    #[tokio::test]
    async fn a_peer_pushes_out_its_own_and_those_first_that_ask_for_nothing() {
        let (left, pushed_out) = open(&["::1"; MOST_OF_PEER + 3], &[0, 2]).await;
        assert_eq!((left.len(), pushed_out), (MOST_OF_PEER, 3));
        assert_eq!(left[..3], [0, 2, 5], "1, 3 and 4 had not asked");

        let peers = [&["192.0.2.1"][..], &["127.0.0.7"; MOST_OF_PEER], &["127.0.0.8"; 5]].concat();
        let (left, pushed_out) = open(&peers, &[]).await;
        assert_eq!((left[0], left[1]), (0, 6), "one host, whatever of its addresses it takes");
        assert_eq!((left.len(), pushed_out), (MOST_OF_PEER + 1, 5));
    }

    #[tokio::test]
    async fn when_all_places_are_taken_the_peer_with_most_makes_room() {
        let mut peers: Vec<String> = (0..MOST - 8).map(|host| format!("192.0.2.{host}")).collect();
        peers.extend(vec!["2001:db8::1".to_owned(); 4]);
        peers.extend((1..7).map(|host| format!("2001:db8::{host}")));
        let (left, pushed_out) = open(&peers.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await;
        assert_eq!((left.len(), pushed_out), (MOST, 2));
        assert!(left.starts_with(&(0..56).collect::<Vec<_>>()) && left[56] == 58, "{left:?}");
    }

    #[tokio::test]
    async fn who_reads_its_scrape_too_slowly_makes_way() {
        let (all, pushed_out) = none();
        for text in 0..=MOST_TEXTS {
            all.admit("::1".parse().unwrap(), |place| async move {
                place.is_sent(text);
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
        }
        assert_eq!(pushed_out.get(), 1);
        assert_eq!(all.lock().open.keys().next(), Some(&1));
        assert!(all.push_out() && all.lock().open.keys().next() == Some(&2));
    }

    #[tokio::test]
    async fn a_place_is_free_once_its_connection_is_over() {
        let (all, _) = none();
        all.admit("::1".parse().unwrap(), |place| async move { drop(place) });
        tokio::task::yield_now().await;
        assert!(all.lock().open.is_empty() && !all.push_out());
    }
}
