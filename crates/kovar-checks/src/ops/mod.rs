//! Every op against what MLX computed, against f64 arithmetic, and against the ops that it stands for.

mod argmax;
mod attention;
mod cache;
mod cast;
mod elementwise;
mod embedding;
mod fast;
mod fused;
pub mod golden;
pub mod harness;
mod linear;
mod norm;
mod peak;
mod random;
mod rotary;
pub mod sample;

use kovar::{Device, DeviceOptions};
use kovar_testing::{Subject, skip, subjects};

/// One thing that an op must do.
pub struct Check {
    /// Op and name.
    pub name: &'static str,
    body: fn(&Device),
    applies: fn(&Device) -> bool,
}

/// Calls a macro with the list of all checks: `op { name name: on_some .. } ..`.
#[macro_export]
macro_rules! ops_checks {
    ($use:ident) => {
        $use! {
            argmax {
                agrees_with_mlx
                the_first_of_the_largest_wins
                nan_and_infinity
                finds_it_in_a_large_vocabulary
            }
            attention {
                agrees_with_mlx
                agrees_with_f64_for_any_shape
                long_caches
                positions_are_clamped_to_the_capacity
                huge_scores_do_not_overflow
            }
            cache {
                rows_land_at_their_position_or_are_dropped
                takes_long_prompts
            }
            cast {
                agrees_with_mlx
                every_half_widens_to_its_value_and_back
                narrowing_rounds_to_nearest_even
            }
            elementwise {
                sums_are_those_of_mlx
                silu_agrees_with_mlx
                any_length_agrees_with_f64
                silu_has_its_limits
                one_buffer_may_be_both_arguments
            }
            embedding {
                agrees_with_mlx
                a_token_outside_the_table_gives_the_last_row
                many_tokens
            }
            fast {
                norm_and_products
                gate_and_addition
                parts_of_attention
                devices_agree
            }
            fused {
                add_norm_is_add_and_norm
                norm_rotary_is_norm_and_rotary_and_cache_write
                attention_in_parts_is_attention
                attention_turns_heads_and_writes_the_cache
            }
            linear {
                quantised_agrees_with_mlx
                quantised_with_8_bit_activations_is_near_mlx
                dense_agrees_with_mlx
                quantised_of_any_shape
                dense_of_any_shape
                large_shapes
                extreme_activations
                rows_do_not_spoil_each_other
                devices_round_alike: lacks_matrix_units
                matrix_units_round_factors_to_f16_alone: has_matrix_units
            }
            norm {
                agrees_with_mlx
                agrees_with_f64
                takes_many_rows
            }
            peak {
                reading_sums_all_up
                chains_of_multiply_adds_are_computed_to_their_end
                sums_of_bytes_are_exact_on_every_device
                tiles_are_added_up: has_an_edge
            }
            random {
                every_device_makes_the_same
                one_seed_gives_multiples
            }
            rotary {
                agrees_with_mlx
                agrees_with_f64_at_any_position
                takes_angles_of_both_signs_and_all_sizes
            }
        }
    };
}

macro_rules! table {
    ($($op:ident { $($name:ident $(: $some:ident)?)* })*) => {
        /// All of them.
        pub static CHECKS: &[Check] = &[$($(Check {
            name: concat!(stringify!($op), "::", stringify!($name)),
            body: $op::$name,
            applies: table!(@applies $op $($some)?),
        }),*),*];
    };
    (@applies $op:ident) => { |_| true };
    (@applies $op:ident $some:ident) => { $op::$some };
}
ops_checks!(table);

/// Opens a device, with the vendor's validation where it is installed.
pub fn open(subject: &Subject) -> Device {
    let options = DeviceOptions { validation: subject.validates(), ..DeviceOptions::default() };
    Device::from_adapter(subject.adapter.as_ref(), &options).unwrap_or_else(|error| panic!("{}: {error}", subject.name))
}

impl Check {
    /// The check of this name. Panics if there is none.
    pub fn find(name: &str) -> &'static Check {
        CHECKS.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check is named {name}"))
    }

    /// Whether the device does what it is about.
    pub fn applies(&self, device: &Device) -> bool {
        (self.applies)(device)
    }

    /// Runs it. Panics if the device fails it, or the vendor's validation has something to say.
    pub fn run(&self, device: &Device) {
        (self.body)(device);
    }

    /// Runs it against every device of this machine that it applies to. Says so if there is none.
    pub fn run_on_each(&self) {
        let mut ran = false;
        for subject in subjects(self.name) {
            let device = open(&subject);
            if self.applies(&device) {
                self.run(&device);
                ran = true;
            }
        }
        if !ran {
            skip(self.name, "coop", "no device here multiplies tiles of f16");
        }
    }
}
