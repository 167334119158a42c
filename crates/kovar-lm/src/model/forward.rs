//! The forward pass, recorded.

use kovar::{Buffer, CommandEncoder};
use kovar_ops::activation::silu_mul;
use kovar_ops::argmax::argmax;
use kovar_ops::attention::attention;
use kovar_ops::elementwise::add;
use kovar_ops::embedding::embed;
use kovar_ops::linear::linear;
use kovar_ops::norm::rms_norm;
use kovar_ops::rotary::rotary;
use kovar_ops::{Precision, cache};

use super::Model;
use super::layer::Layer;
use crate::Result;
use crate::cache::{Cache, LayerCache};
use crate::workspace::{HeadRows, Rows, rows_of};

/// What a forward pass works with beside the weights.
pub(crate) struct Pass<'a> {
    pub(crate) encoder: &'a mut CommandEncoder,
    pub(crate) rows: Rows,
    pub(crate) cache: &'a Cache,
    /// u32 [1]: position of the first row. It is read on the device, so that a recording can serve any position.
    pub(crate) position: &'a Buffer,
    pub(crate) precision: Precision,
}

impl Model {
    /// Records everything between the tokens and the last layer. The result is in the last of `rows.stream`, which a
    /// capture replaces by scratch of its own.
    pub(crate) fn record_layers(&self, pass: &mut Pass<'_>) -> Result<()> {
        embed(pass.encoder, &self.embedding, &pass.rows.tokens, &pass.rows.stream[0])?;
        for (index, layer) in self.layers.iter().enumerate() {
            if pass.encoder.is_capturing() {
                let mut from = pass.rows.clone();
                if index == 0 {
                    from.stream[2] = from.stream[0].clone();
                }
                pass.rows = from.next_layer(pass.encoder, &self.config)?;
            }
            if let Some(cache) = pass.cache.layer(index) {
                self.record_attention(pass, layer, cache)?;
                self.record_mlp(pass, layer)?;
            }
        }
        Ok(())
    }

    /// Records the final norm and the head for `head.len()` rows from `start` on; with `choose`, the largest logit of
    /// each too.
    pub(crate) fn record_head(&self, pass: &mut Pass<'_>, start: usize, head: &HeadRows, choose: bool) -> Result<()> {
        let mut input = rows_of(&pass.rows.stream[2], start, head.len())?;
        if !input.byte_offset().is_multiple_of(self.device.info().limits.storage_alignment) {
            pass.encoder.copy(&input.reshape(head.input.shape())?, &head.input)?;
            input = head.input.clone();
        }
        rms_norm(pass.encoder, &input, &self.norm, &head.normed, self.config.norm_eps)?;
        linear(pass.encoder, self.head(), &head.normed, &head.logits, pass.precision)?;
        if choose {
            argmax(pass.encoder, &head.logits, &head.largest)?;
        }
        Ok(())
    }

    fn record_attention(&self, pass: &mut Pass<'_>, layer: &Layer, cache: &LayerCache) -> Result<()> {
        let Pass { encoder, rows, position, precision, .. } = pass;
        let (eps, [input, middle, _]) = (self.config.norm_eps, &rows.stream);
        let ([q, q_normed, q_turned], [k, k_normed, k_turned], v) = (&rows.queries, &rows.keys, &rows.values);
        let (normed, block) = (&rows.normed[0], &rows.block[0]);
        rms_norm(encoder, input, &layer.attention_norm, normed, eps)?;
        linear(encoder, &layer.queries, normed, &q.flat, *precision)?;
        linear(encoder, &layer.keys, normed, &k.flat, *precision)?;
        linear(encoder, &layer.values, normed, &v.flat, *precision)?;
        let (mut q, mut k) = (q, k);
        if let Some(norms) = &layer.head_norms {
            rms_norm(encoder, &q.heads, &norms.queries, &q_normed.heads, eps)?;
            rms_norm(encoder, &k.heads, &norms.keys, &k_normed.heads, eps)?;
            (q, k) = (q_normed, k_normed);
        }
        rotary(encoder, &q.heads, &self.frequencies, position, &q_turned.heads)?;
        rotary(encoder, &k.heads, &self.frequencies, position, &k_turned.heads)?;
        cache::write(encoder, &k_turned.heads, position, &cache.keys)?;
        cache::write(encoder, &v.heads, position, &cache.values)?;
        let scale = (self.config.head_dim as f32).sqrt().recip();
        let attended = &rows.attended;
        attention(encoder, &q_turned.heads, &cache.keys, &cache.values, position, &attended.heads, scale)?;
        linear(encoder, &layer.output, &attended.flat, block, *precision)?;
        Ok(add(encoder, input, block, middle)?)
    }

    fn record_mlp(&self, pass: &mut Pass<'_>, layer: &Layer) -> Result<()> {
        let Pass { encoder, rows, precision, .. } = pass;
        let ([_, middle, out], normed, block) = (&rows.stream, &rows.normed[1], &rows.block[1]);
        rms_norm(encoder, middle, &layer.mlp_norm, normed, self.config.norm_eps)?;
        linear(encoder, &layer.gate, normed, &rows.gate, *precision)?;
        linear(encoder, &layer.up, normed, &rows.up, *precision)?;
        silu_mul(encoder, &rows.gate, &rows.up, &rows.activated)?;
        linear(encoder, &layer.down, &rows.activated, block, *precision)?;
        Ok(add(encoder, middle, block, out)?)
    }
}
