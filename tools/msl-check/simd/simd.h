// Included by generated code; all that is used of it is in metal_stdlib.
