// The chosen token becomes the next input, one position further, and is kept in the history.
@group(0) @binding(0) var<storage, read> chosen: u32;
@group(0) @binding(1) var<storage, read_write> token: u32;
@group(0) @binding(2) var<storage, read_write> position: u32;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
var<immediate> capacity: u32;

@compute @workgroup_size(1)
fn advance() {
    let place = position;
    if (place < capacity) {
        history[place] = chosen;
    }
    token = chosen;
    position = place + 1u;
}
