use crate::encoder::Node;
use crate::hazard::{NodeId, Tracker};

/// Fills each group with what may join it from the next `look_ahead` commands. A command joins if it conflicts neither
/// with the group nor with any command that it passes.
pub(super) fn widen(nodes: Vec<Node>, look_ahead: usize) -> Vec<Node> {
    let mut waiting: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    let mut first = 0;
    while first < waiting.len() {
        let mut group = Tracker::default();
        let mut passed = Tracker::default();
        let mut passed_count = 0;
        let mut at = first;
        while at < waiting.len() && passed_count <= look_ahead {
            let Some(node) = &waiting[at] else {
                at += 1;
                continue;
            };
            if node.opaque && (passed_count > 0 || !group.is_empty()) {
                break;
            }
            let joins = group.conflict(&node.accesses).is_none() && passed.conflict(&node.accesses).is_none();
            if joins {
                group.record(NodeId(0), &node.accesses);
                let opaque = node.opaque;
                ordered.extend(waiting[at].take());
                if opaque {
                    break;
                }
            } else {
                passed.record(NodeId(0), &node.accesses);
                passed_count += 1;
            }
            at += 1;
        }
        while first < waiting.len() && waiting[first].is_none() {
            first += 1;
        }
    }
    ordered
}
