//! What every backend must do, as checks that run against one device.
//!
//! A check panics where a device fails it. Most get a [`rig::Rig`]: an open device with helpers that destroy what they
//! made. When such a check ends, the device must be usable, and vendor validation must have been silent. The tests of
//! `kovar-hal` run each against every device of the machine, `kovar doctor` all of them against one.

mod dispatch;
mod events;
mod faults;
mod hazards;
pub mod kernels;
mod lifetime;
mod memory;
mod metal;
mod order;
pub mod rig;
mod threads;
mod timing;

use std::sync::Arc;

use kovar_hal::faulty::{Faulty, Live};
use kovar_hal::{Adapter, Backend, CpuChecks, CpuSchedule, Device, OpenOptions};

use crate::{Subject, subjects};
use rig::Rig;

/// One thing that a backend must do.
pub struct Check {
    /// Module and name.
    pub name: &'static str,
    body: Body,
    on: On,
}

enum Body {
    /// With an open device.
    Rig(fn(&Rig)),
    /// Opens devices itself.
    Subject(fn(&Subject)),
}

/// Where a check applies.
#[derive(PartialEq, Eq)]
enum On {
    Everywhere,
    Cpu,
    Metal,
    Vulkan,
    /// Where the Khronos validation layer listens.
    Validated,
}

/// Calls a macro with the list of all checks: `module { name(what it gets, where it applies) .. } ..`.
#[macro_export]
macro_rules! conformance_checks {
    ($use:ident) => {
        $use! {
            dispatch {
                grids_of_all_shapes(Rig, Everywhere)
                an_empty_grid_does_nothing(Rig, Everywhere)
                constants_and_bindings_belong_to_their_dispatch(Rig, Everywhere)
                bindings_at_offsets(Rig, Everywhere)
                uniform_blocks(Rig, Everywhere)
                workgroup_memory(Rig, Everywhere)
                grids_from_a_buffer(Rig, Everywhere)
                subgroup_widths_can_be_required(Rig, Vulkan)
                features_work(Rig, Everywhere)
            }
            events {
                the_host_signals_and_reads(Rig, Everywhere)
                a_wait_ends_with_its_limit(Rig, Everywhere)
                the_host_releases_a_submission(Rig, Everywhere)
                submissions_wait_for_submissions(Rig, Everywhere)
                submissions_of_nothing_signal(Rig, Everywhere)
                submissions_of_nothing_wait_their_turn(Rig, Everywhere)
                values_only_grow(Rig, Everywhere)
                another_thread_is_woken(Rig, Everywhere)
            }
            faults {
                bad_code_is_an_error(Rig, Everywhere)
                pipeline_caches_survive_and_strange_ones_are_ignored(Rig, Everywhere)
                faults_are_told_and_later_work_goes_on(Rig, Cpu)
                a_fault_does_not_stick(Rig, Cpu)
                waits_that_time_out_leave_the_device_usable(Rig, Everywhere)
            }
            hazards {
                a_missing_barrier_is_seen(Rig, Validated)
                submissions_need_no_barrier_of_the_caller(Rig, Validated)
            }
            lifetime {
                dropping_the_device_ends_its_work(Subject, Everywhere)
                devices_open_many_times(Subject, Everywhere)
                two_devices_of_one_adapter(Subject, Everywhere)
            }
            memory {
                new_buffers_are_zero_even_where_others_lay(Rig, Everywhere)
                host_addresses_suit_any_element(Rig, Everywhere)
                copy_and_fill_move_exact_ranges(Rig, Everywhere)
                too_large_is_an_error_and_harmless(Rig, Everywhere)
                host_memory_becomes_a_buffer(Rig, Everywhere)
                memory_figures_make_sense(Rig, Everywhere)
                residency_changes_are_taken_with_any_buffers_and_none(Rig, Everywhere)
            }
            metal {
                passes_of_both_kinds_run_in_order_and_again(Rig, Metal)
                new_memory_is_zero(Rig, Metal)
                more_dispatches_are_timed_than_a_sample_buffer_holds(Rig, Metal)
                mapped_memory_is_used_where_it_lies(Rig, Metal)
                pipelines_are_refused_by_name_and_cached(Rig, Metal)
                a_capture_is_written_or_says_why_not(Rig, Metal)
                threadgroup_memory_is_sized_by_the_dispatch(Rig, Metal)
            }
            order {
                barriers_order_dispatches(Rig, Everywhere)
                dispatches_of_a_group_all_run(Rig, Everywhere)
                barriers_order_copies_and_fills(Rig, Everywhere)
                a_recording_runs_again(Rig, Everywhere)
                submissions_run_in_order_and_see_each_other(Rig, Everywhere)
                several_command_buffers_in_one_submission(Rig, Everywhere)
                an_abandoned_recorder_leaves_nothing(Rig, Everywhere)
                shuffled_orders_agree(Subject, Cpu)
            }
            threads {
                four_threads_record_and_submit(Rig, Everywhere)
            }
            timing {
                the_whole_is_timed(Rig, Everywhere)
                nothing_is_timed_when_off(Rig, Everywhere)
                each_command_is_timed(Rig, Everywhere)
                clocks_run_together(Rig, Everywhere)
                times_can_be_read_while_later_work_waits(Rig, Everywhere)
            }
        }
    };
}

macro_rules! table {
    ($($module:ident { $($name:ident($body:ident, $on:ident))* })*) => {
        /// All of them.
        pub static CHECKS: &[Check] = &[$($(Check {
            name: concat!(stringify!($module), "::", stringify!($name)),
            body: Body::$body($module::$name),
            on: On::$on,
        }),*),*];
    };
}
conformance_checks!(table);

impl Check {
    /// The check of this name. Panics if there is none.
    pub fn find(name: &str) -> &'static Check {
        CHECKS.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check is named {name}"))
    }

    /// Whether the device is of the kind that it is about.
    pub fn applies(&self, subject: &Subject) -> bool {
        let backend = subject.adapter.info().backend;
        match self.on {
            On::Everywhere => true,
            On::Cpu => backend == Backend::Cpu,
            On::Metal => backend == Backend::Metal,
            On::Vulkan => backend == Backend::Vulkan,
            On::Validated => subject.validation,
        }
    }

    /// Runs it. Panics if the device fails it.
    pub fn run(&self, subject: &Subject) {
        self.with(subject, || subject.open());
    }

    /// Runs it against every device of this machine it applies to, and every way through the CPU backend.
    pub fn run_on_each(&self) {
        for subject in subjects(self.name).iter().filter(|subject| self.applies(subject)) {
            println!("--- {} ({})", subject.name, subject.adapter.info().name);
            self.run(subject);
            if subject.adapter.info().backend == Backend::Cpu && matches!(self.body, Body::Rig(_)) {
                self.run_on_other_ways(subject);
            }
        }
    }

    /// A single worker, more workers than cores, a chosen order, and the wrapper that injects faults.
    fn run_on_other_ways(&self, subject: &Subject) {
        for (threads, schedule) in
            [(Some(1), CpuSchedule::Parallel), (Some(7), CpuSchedule::Parallel), (None, CpuSchedule::Shuffled(1))]
        {
            println!("--- {}, threads {threads:?}, {schedule:?}", subject.name);
            self.with(subject, || subject.open_with(&OpenOptions { threads, schedule, ..OpenOptions::default() }));
        }
        println!("--- {}, watched for races, through the wrapper that injects faults", subject.name);
        let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
        let checks = CpuChecks { races: true };
        self.with(subject, || adapter.open(&OpenOptions { checks, ..OpenOptions::default() }).unwrap());
        assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
    }

    fn with(&self, subject: &Subject, open: impl FnOnce() -> Arc<dyn Device>) {
        match self.body {
            Body::Rig(check) => {
                let rig = Rig::new(open());
                check(&rig);
                rig.finish();
            }
            Body::Subject(check) => check(subject),
        }
    }
}
