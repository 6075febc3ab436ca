//! The job book: which jobs exist, what they cost, and which receipt of each was attested.
//!
//! Pure: jobs come from [`JobBook::create`] and from [`JobBook::tick`], whose numbers
//! follow from the book's seed. Ids of ordered jobs hold the time of the book's beginning,
//! so that a book begun anew names none like one before it; simulated ones are counted,
//! as the old mock's were. No clock and no key here.

use std::collections::{BTreeMap, VecDeque};

use ait_engine::receipt::Receipt;
use ait_engine::types::{Hash, MicroUnits};

use super::AttestRefusal;

/// Most simulated jobs that are kept; the oldest is forgotten first.
pub const SIMULATED_JOB_COUNT_MAX: usize = 120;
/// Most ordered jobs that are kept; the oldest is forgotten first.
pub const ORDERED_JOB_COUNT_MAX: usize = 10_000;

/// Who and what a job is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who pays; anybody if none.
    pub client: Option<String>,
    /// Who does it; anybody if none.
    pub provider: Option<String>,
    /// Compute units that it takes.
    pub units: MicroUnits,
    /// What the client pays.
    pub price: MicroUnits,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Who and what it is for.
    pub order: Order,
    /// When it came in, in seconds since 1970.
    pub created_at: u64,
    /// Hash of the only receipt that is ever attested for it.
    pub attested: Option<Hash>,
}

impl Job {
    /// Where it stands, in the old software's words.
    #[must_use]
    pub const fn status(&self) -> &'static str {
        if self.attested.is_some() { "completed" } else { "running" }
    }
}

/// What happened so far, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Jobs that came in.
    pub submitted: u64,
    /// Jobs whose receipt was attested, or that the simulation finished.
    pub completed: u64,
    /// Jobs that the simulation let fail.
    pub failed: u64,
    /// Sum of their prices, in whole units of price.
    pub price_sum: u64,
    /// Sum of their compute units, whole ones.
    pub units_sum: u64,
    /// Sum of the simulated durations, in milliseconds.
    pub duration_ms_sum: u64,
    /// Receipts attested, or known to the old endpoint.
    pub receipts_attested: u64,
    /// Receipts for jobs that do not exist.
    pub receipts_unknown: u64,
}

/// Every job that the coordinator knows.
#[derive(Debug)]
pub struct JobBook {
    jobs: BTreeMap<String, Job>,
    simulated: VecDeque<String>,
    ordered: VecDeque<String>,
    next_number: u64,
    /// When the book was begun, in seconds since 1970.
    begun_at: u64,
    random: u64,
    counters: Counters,
}

const fn whole(units: u64) -> MicroUnits {
    MicroUnits::saturating(units * 1_000_000)
}

impl JobBook {
    /// A book with the two jobs that were always there; times are in seconds since 1970.
    #[must_use]
    pub fn new(seed: u64, now: u64) -> Self {
        let mut book = Self {
            jobs: BTreeMap::new(),
            simulated: VecDeque::new(),
            ordered: VecDeque::new(),
            next_number: 1,
            begun_at: now,
            random: seed,
            counters: Counters::default(),
        };
        for (price, units) in [(50_000, 2_500), (25_000, 1_200)] {
            let (price, units) = (whole(price), whole(units));
            book.add(Order { client: None, provider: None, units, price }, now, false);
        }
        book
    }

    fn add(&mut self, order: Order, now: u64, is_ordered: bool) -> Job {
        let number = self.next_number;
        let id = if is_ordered {
            format!("job_{:x}_{number}", self.begun_at)
        } else {
            format!("job_{number}")
        };
        self.next_number = self.next_number.saturating_add(1);
        let counters = &mut self.counters;
        counters.submitted = counters.submitted.saturating_add(1);
        counters.price_sum = counters.price_sum.saturating_add(order.price.get() / 1_000_000);
        counters.units_sum = counters.units_sum.saturating_add(order.units.get() / 1_000_000);
        let job = Job { id: id.clone(), order, created_at: now, attested: None };
        self.jobs.insert(id, job.clone());
        job
    }

    /// Adds a job that somebody ordered.
    pub fn create(&mut self, order: Order, now: u64) -> Job {
        let job = self.add(order, now, true);
        self.ordered.push_back(job.id.clone());
        if self.ordered.len() > ORDERED_JOB_COUNT_MAX
            && let Some(oldest) = self.ordered.pop_front()
        {
            self.jobs.remove(&oldest);
        }
        job
    }

    /// Adds one simulated job and lets its provider finish or, at times, fail.
    pub fn tick(&mut self, now: u64) {
        let miner = self.random_below(4);
        let units = 100 + self.random_below(4_901);
        let price = units * (15 + self.random_below(11));
        let duration_ms = 500 + self.random_below(7_501);
        let is_failure = self.random_below(20) == 0;
        let order = Order {
            client: Some(format!("client-{}", self.random_below(3))),
            provider: Some(format!("miner-{miner}")),
            units: whole(units),
            price: whole(price),
        };
        let job = self.add(order, now, false);
        let counters = &mut self.counters;
        counters.duration_ms_sum = counters.duration_ms_sum.saturating_add(duration_ms);
        let result = if is_failure { &mut counters.failed } else { &mut counters.completed };
        *result = result.saturating_add(1);
        self.simulated.push_back(job.id);
        if self.simulated.len() > SIMULATED_JOB_COUNT_MAX
            && let Some(oldest) = self.simulated.pop_front()
        {
            self.jobs.remove(&oldest);
        }
    }

    /// The next pseudo-random number (SplitMix64, Steele, Lea and Flood 2014).
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// The job of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// Looks a job up for the old endpoint, and counts it.
    pub fn quote(&mut self, id: &str) -> Option<Job> {
        let job = self.jobs.get(id).cloned();
        let known = job.is_some();
        let counters = &mut self.counters;
        let counter =
            if known { &mut counters.receipts_attested } else { &mut counters.receipts_unknown };
        *counter = counter.saturating_add(1);
        job
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How many jobs wait for a receipt.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.jobs.values().filter(|job| job.attested.is_none()).count()
    }

    /// How many simulated jobs finished or failed.
    #[must_use]
    pub const fn finished_count(&self) -> u64 {
        self.counters.completed.saturating_add(self.counters.failed)
    }

    /// Settles that `receipt`, whose canonical text has this hash, is the one of its job.
    /// `same` tells whether two texts name one party.
    ///
    /// # Errors
    /// [`AttestRefusal`] if the job is unknown, says otherwise, or has another receipt.
    pub fn attest(
        &mut self,
        receipt: &Receipt,
        hash: Hash,
        same: impl Fn(&str, &str) -> bool,
    ) -> Result<(), AttestRefusal> {
        let Some(job) = self.jobs.get_mut(&receipt.job_id) else {
            self.counters.receipts_unknown = self.counters.receipts_unknown.saturating_add(1);
            return Err(AttestRefusal::JobUnknown { job_id: receipt.job_id.clone() });
        };
        let order = &job.order;
        if receipt.units != order.units {
            let (expected, found) = (order.units, receipt.units);
            return Err(AttestRefusal::UnitsMismatch { expected, found });
        }
        // A receipt without a price has 0.
        if receipt.price != MicroUnits::ZERO && receipt.price != order.price {
            let (expected, found) = (order.price, receipt.price);
            return Err(AttestRefusal::PriceMismatch { expected, found });
        }
        let differs = |expected: &Option<String>, found: &str| {
            expected.clone().filter(|expected| !same(expected, found))
        };
        if let Some(expected) = differs(&order.provider, &receipt.provider) {
            let found = receipt.provider.clone();
            return Err(AttestRefusal::ProviderMismatch { expected, found });
        }
        if let Some(expected) = differs(&order.client, &receipt.client) {
            let found = receipt.client.clone();
            return Err(AttestRefusal::ClientMismatch { expected, found });
        }
        match job.attested {
            Some(other) if other != hash => {
                return Err(AttestRefusal::AlreadyAttested { job_id: job.id.clone() });
            }
            Some(_) => {}
            None => {
                job.attested = Some(hash);
                self.counters.completed = self.counters.completed.saturating_add(1);
                self.counters.receipts_attested = self.counters.receipts_attested.saturating_add(1);
            }
        }
        Ok(())
    }
}
