//! How one thread walks a job list: in an order of its choice, and watched.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::claims::Next;
use super::kernel::Prepared;
use super::recorder::{CpuCommandBuffer, Work};
use super::walk::Crew;
use crate::{CpuSchedule, HalError};

impl CpuCommandBuffer {
    /// Walks the list group by group. Returns `true` for the thread that ended it.
    pub(crate) fn walk_alone(&self, crew: &Crew) -> bool {
        let mut order = match crew.schedule {
            CpuSchedule::Parallel => Order::Recorded,
            CpuSchedule::Shuffled(seed) => Order::Shuffled(SplitMix(seed)),
        };
        loop {
            // The whole group at once: whoever else comes finds nothing.
            let Next::Run(claim) = self.claims.claim(|left| left) else { return false };
            if self.watch.is_some() {
                self.run_watched(self.groups[claim.group].clone(), &mut order, crew);
                self.check_group();
            } else {
                self.run_mixed(self.groups[claim.group].clone(), &mut order, crew);
            }
            if self.claims.finish(claim) && self.close_group(claim.group, crew) {
                return true;
            }
        }
    }

    fn tasks(&self, number: usize) -> Range<u32> {
        0..self.jobs[number].tasks.load(Ordering::Relaxed)
    }

    /// The tasks of all jobs of a group, mixed.
    fn run_mixed(&self, jobs: Range<usize>, order: &mut Order, crew: &Crew) {
        let tasks = jobs.flat_map(|number| self.tasks(number).map(move |task| (number, task)));
        for (number, task) in order.of(tasks.collect()) {
            self.run_tasks(number, task..task + 1, crew, &Prepared::new());
        }
    }

    /// The jobs of a group one by one, so that what a job does to its buffers can be told from what others do.
    fn run_watched(&self, jobs: Range<usize>, order: &mut Order, crew: &Crew) {
        for number in order.of(jobs.collect()) {
            let before = self.copies_of_written(number);
            for task in order.of(self.tasks(number).collect()) {
                self.run_tasks(number, task..task + 1, crew, &Prepared::new());
            }
            self.check_unclaimed(number, &before);
        }
    }

    /// What the written slots of a job hold now.
    fn copies_of_written(&self, number: usize) -> Vec<(usize, Vec<u8>)> {
        let Work::Kernel { bindings, .. } = &self.jobs[number].work else { return Vec::new() };
        let written = self.bindings[bindings.clone()].iter().enumerate().filter(|(_, binding)| binding.writable);
        // SAFETY: the bindings are live, and one thread does all the work: nobody writes meanwhile.
        written.map(|(slot, b)| (slot, unsafe { std::slice::from_raw_parts(b.ptr, b.len) }.to_vec())).collect()
    }

    /// Finds bytes that a kernel changed without having asked for them.
    fn check_unclaimed(&self, number: usize, before: &[(usize, Vec<u8>)]) {
        let Some(watch) = &self.watch else { return };
        let after = self.copies_of_written(number);
        for ((slot, old), (_, new)) in before.iter().zip(&after) {
            let claimed = watch.log.written(number as u32, *slot);
            let mut next = 0;
            let end = old.len()..old.len();
            for claim in claimed.iter().cloned().chain(std::iter::once(end)) {
                let gap = next..claim.start.max(next);
                if let Some(at) = old[gap.clone()].iter().zip(&new[gap.clone()]).position(|(old, new)| old != new) {
                    let at = gap.start + at;
                    let reason = format!(
                        "changed byte {at} of slot {slot} without asking for it: writes go through `slice_mut`"
                    );
                    self.fail(HalError::Fault { label: self.job_label(&self.jobs[number]), reason });
                    break;
                }
                next = next.max(claim.end);
            }
        }
    }

    /// Looks for races in what the tasks of the group that ends have asked for.
    pub(crate) fn check_group(&self) {
        let Some(watch) = &self.watch else { return };
        let name = |job: u32| {
            let job = job as usize;
            let kernel = match &self.jobs[job].work {
                Work::Kernel { pipeline, .. } => pipeline.label.as_str(),
                Work::Copy { .. } => "copy",
                Work::Fill { .. } => "fill",
            };
            (kernel.to_string(), watch.labels[job].clone())
        };
        if let Some(race) = watch.log.take_race(&self.label, name) {
            self.fail(HalError::Race(Box::new(race)));
        }
    }
}

/// In which order.
enum Order {
    Recorded,
    Shuffled(SplitMix),
}

impl Order {
    fn of<T>(&mut self, mut list: Vec<T>) -> Vec<T> {
        if let Order::Shuffled(random) = self {
            for last in (1..list.len()).rev() {
                list.swap(last, (random.next() % (last as u64 + 1)) as usize);
            }
        }
        list
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
