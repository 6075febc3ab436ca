//! What connects the nodes: dialling, messages that are slow, late, lost, twice or out of order.

use super::*;

/// The stream of transactions.
const TRANSACTIONS: usize = 1;

impl World {
    pub(super) fn index(&self, peer: &PeerId) -> Option<usize> {
        (0..self.sites.len()).find(|n| id(*n) == *peer)
    }

    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.troubles.values().any(|trouble| trouble.blocked.contains(&(from, to)))
    }

    pub(super) fn connection(&self, a: usize, b: usize) -> Option<u64> {
        self.connections.get(&(a.min(b), a.max(b))).copied()
    }

    pub(super) fn delay(&mut self, from: usize, to: usize) -> u64 {
        let faults = self.options.faults;
        let mut delay = self.rng.u64(1..8);
        let is_slow = |n| self.troubles.values().any(|trouble| trouble.slow.contains(&n));
        if is_slow(from) || is_slow(to) {
            delay += self.rng.u64(100..900);
        }
        if !self.is_quiet && faults.has(FaultKind::Loss) && self.rng.u8(0..30) == 0 {
            self.faults.count(FaultKind::Loss);
            delay += self.about(AGAIN_MS);
        }
        delay
    }

    pub(super) fn send(&mut self, from: usize, to: usize, kind: usize, input: Input) {
        let Some(connection) = self.connection(from, to) else { return };
        let mut delay = self.delay(from, to);
        let reorders = !self.is_quiet && self.options.faults.has(FaultKind::Reordering);
        if reorders && self.rng.u8(0..20) == 0 {
            self.faults.count(FaultKind::Reordering);
            delay += self.rng.u64(1..40);
        } else {
            let last = self.streams.get(&(from, to, kind)).copied().unwrap_or(0);
            let at = last.max(self.now_ms + delay);
            self.streams.insert((from, to, kind), at);
            delay = at - self.now_ms;
        }
        let input = Box::new(input);
        self.at(delay, Happening::Arrive { to, from, connection, input, kind });
    }

    pub(super) fn perform(&mut self, n: usize, output: Output) {
        match output {
            Output::Dial(address) => {
                let Some(to) = self.index(&address.id) else { return };
                let (from, boot) = (n, self.sites[n].boot);
                let delay = self.delay(from, to);
                self.at(delay, Happening::Call { to, from, boot });
            }
            Output::Send { .. } if self.is_mute(n) => {}
            Output::Send { peers, frame } => {
                for peer in peers {
                    if let Some(to) = self.index(&peer) {
                        self.frame(n, to, &frame);
                    }
                }
            }
            Output::Ask { id, peer, request } => {
                let to = self.index(&peer);
                match to.and_then(|to| Some((to, self.connection(n, to)?))) {
                    Some((to, connection)) => {
                        let delay = self.delay(n, to);
                        self.at(delay, Happening::Ask { to, from: n, connection, id, request });
                    }
                    None => {
                        let input = Box::new(no_answer(id, peer, request));
                        self.at(1, Happening::Told { at: n, boot: self.sites[n].boot, input });
                    }
                }
            }
            Output::Disconnect { peer, reason } => {
                if let Some(to) = self.index(&peer) {
                    self.note(|| format!("node {n} cuts off node {to}: {reason}"));
                    self.connections.remove(&(n.min(to), n.max(to)));
                    let input = Box::new(Input::Disconnected { peer: id(n) });
                    self.at(1, Happening::Told { at: to, boot: self.sites[to].boot, input });
                }
            }
            Output::Pause { peer, for_ms } => {
                let Some(from) = self.index(&peer) else { return };
                let Some(connection) = self.connection(n, from) else { return };
                self.note(|| format!("node {n} pauses node {from} for {for_ms} ms"));
                self.pause_count += 1;
                self.pauses.insert((n, from), (connection, self.now_ms + for_ms));
            }
            Output::Deliver(_) | Output::BookChanged => {}
        }
    }

    pub(super) fn frame(&mut self, from: usize, to: usize, frame: &Frame) {
        let peer = id(from);
        let again = !self.is_quiet
            && self.options.faults.has(FaultKind::Duplication)
            && self.rng.u8(0..40) == 0;
        if again {
            self.faults.count(FaultKind::Duplication);
        }
        for _ in 0..=usize::from(again) {
            // Decoded as the transport does, from the bytes that travel.
            let (kind, input) = match frame {
                Frame::Control(bytes) => match Control::decode(bytes) {
                    Ok(control) => (0, Input::Control { peer, control }),
                    Err(_) => return,
                },
                Frame::Transactions(batch) => match TransactionBatch::decode(batch.bytes()) {
                    Ok((_, all)) => {
                        let transactions = all.into_iter().map(|one| (one.hash(), one)).collect();
                        (TRANSACTIONS, Input::Transactions { peer, transactions })
                    }
                    Err(_) => return,
                },
                Frame::Body(bytes) => match Body::decode(bytes) {
                    Ok(body) => (2, Input::Body { peer, body: Box::new(body) }),
                    Err(_) => return,
                },
            };
            self.send(from, to, kind, input);
        }
    }

    pub(super) fn arrive(
        &mut self,
        to: usize,
        from: usize,
        connection: u64,
        input: Box<Input>,
        kind: usize,
    ) -> Result<(), Violation> {
        if self.connection(from, to) != Some(connection) || self.sites[to].process.is_none() {
            return Ok(());
        }
        if self.is_blocked(from, to) {
            // Sent again until it comes through or the connection is given up.
            let again = self.about(AGAIN_MS).max(1);
            self.at(again, Happening::Arrive { to, from, connection, input, kind });
            return Ok(());
        }
        if kind == TRANSACTIONS && self.now_ms < self.paused_until(to, from, connection) {
            // Left in the stream, as the transport does, and what follows behind it.
            let wait = self.paused_until(to, from, connection) - self.now_ms;
            self.at(wait, Happening::Arrive { to, from, connection, input, kind });
            let last = self.streams.entry((from, to, kind)).or_default();
            *last = (*last).max(self.now_ms + wait);
            return Ok(());
        }
        self.feed(to, *input)
    }

    fn paused_until(&self, to: usize, from: usize, connection: u64) -> u64 {
        let pause = self.pauses.get(&(to, from)).filter(|(of, _)| *of == connection);
        pause.map_or(0, |(_, until)| *until)
    }

    pub(super) fn called(&mut self, to: usize, from: usize, boot: u64) -> Result<(), Violation> {
        let caller_is_there = self.sites[from].process.is_some() && self.sites[from].boot == boot;
        if !caller_is_there {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let admits = |at: usize, peer: usize| {
            let process = self.sites[at].process.as_ref();
            process.is_some_and(|process| {
                let host = format!("node-{peer}");
                process.protocol.admit(&id(peer), &host, now_ms).is_ok()
            })
        };
        let is_open = !self.is_blocked(from, to) && !self.is_blocked(to, from);
        if !is_open || !admits(to, from) || !admits(from, to) {
            let input = Box::new(Input::DialFailed { peer: id(to) });
            self.at(1_000, Happening::Told { at: from, boot, input });
            return Ok(());
        }
        let place = (from.min(to), from.max(to));
        self.next_connection += 1;
        if self.connections.insert(place, self.next_connection).is_some() {
            // A newer connection takes the place of one that was not yet found dead.
            for (at, peer) in [(to, from), (from, to)] {
                self.feed(at, Input::Disconnected { peer: id(peer) })?;
            }
        }
        self.note(|| format!("node {from} and node {to} connect"));
        for (at, peer, is_outbound) in [(to, from, false), (from, to, true)] {
            let Some(hello) = self.hello(peer) else { continue };
            let (peer, host) = (id(peer), format!("node-{peer}"));
            self.feed(at, Input::Connected { peer, is_outbound, host, hello })?;
        }
        Ok(())
    }

    pub(super) fn hello(&self, n: usize) -> Option<Hello> {
        let chain = &self.sites[n].process.as_ref()?.chain;
        let rules = ait_engine::types::Hash([0; 32]);
        let mut hello = hello(chain_id(), chain.genesis_id(), rules);
        hello.height = chain.head().height;
        Some(hello)
    }

    pub(super) fn asked(
        &mut self,
        to: usize,
        from: usize,
        connection: u64,
        number: u64,
        request: Request,
    ) -> Result<(), Violation> {
        let process = self.sites[to].process.as_ref();
        let is_there = self.connection(from, to) == Some(connection) && !self.is_blocked(from, to);
        if !is_there || process.is_none() {
            // The one who asked hears of it by its time-out.
            self.at(
                14_000,
                Happening::Arrive {
                    to: from,
                    from: to,
                    connection,
                    input: Box::new(no_answer(number, id(to), request)),
                    kind: 3,
                },
            );
            return Ok(());
        }
        let is_false = self.withholds(to);
        if is_false && self.rng.bool() {
            let input = Box::new(no_answer(number, id(to), request));
            let kind = 3;
            self.at(1, Happening::Arrive { to: from, from: to, connection, input, kind });
            return Ok(());
        }
        let process = self.sites[to].process.as_ref();
        let Some(process) = process else { return Ok(()) };
        let bytes = match request {
            Request::Blocks { from, count } => serve::blocks(&process.chain, from, count),
            Request::Body { block_id, .. } => process.body(&block_id),
        };
        let peer = id(to);
        let input = match request {
            Request::Blocks { .. } => {
                let mut blocks = bytes.and_then(|bytes| Blocks::decode(&bytes).ok());
                if let Some(blocks) = blocks.as_mut().filter(|_| is_false) {
                    self.falsify(to, blocks);
                }
                Input::Blocks { id: number, blocks }
            }
            Request::Body { block_id, .. } => match bytes.and_then(|b| Body::decode(&b).ok()) {
                Some(body) => Input::Body { peer, body: Box::new(body) },
                None => Input::NoBody { peer, block_id },
            },
        };
        self.send(to, from, 3, input);
        Ok(())
    }

    /// A connection was silent for so long that both sides give it up, unless it is alive.
    pub(super) fn idle(&mut self, a: usize, b: usize, connection: u64) -> Result<(), Violation> {
        let is_dead = self.sites[a].process.is_none()
            || self.sites[b].process.is_none()
            || self.is_blocked(a, b)
            || self.is_blocked(b, a);
        // A process that was started again knows nothing of the old connection.
        if self.connection(a, b) != Some(connection) {
            return Ok(());
        }
        let knows = |n: usize, peer: usize| {
            let process = self.sites[n].process.as_ref();
            process.is_some_and(|process| {
                let peers = process.protocol.peers(self.now_ms);
                peers.iter().any(|view| view.id == id(peer) && view.is_connected)
            })
        };
        if !is_dead && knows(a, b) && knows(b, a) {
            return Ok(());
        }
        self.connections.remove(&(a, b));
        self.note(|| format!("the connection of node {a} and node {b} is given up"));
        for (at, peer) in [(a, b), (b, a)] {
            if self.sites[at].process.is_some() {
                self.feed(at, Input::Disconnected { peer: id(peer) })?;
            }
        }
        Ok(())
    }
}

fn no_answer(id: u64, peer: PeerId, request: Request) -> Input {
    match request {
        Request::Blocks { .. } => Input::Blocks { id, blocks: None },
        Request::Body { block_id, .. } => Input::NoBody { peer, block_id },
    }
}
