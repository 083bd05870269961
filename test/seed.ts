// Property tests try the same inputs each time, so that a failure is one; with FOVEA_SEED=N they try others.

import fc from "fast-check";

fc.configureGlobal({ seed: Number(process.env["FOVEA_SEED"] ?? 1) });
