// The throttle, the filters and a recording on Windows: all that holds elsewhere.

import "./remove-trees.ts";
import "../admission.test.ts";
import "../appliance.test.ts";
import "../filter.test.ts";
import "../replay.test.ts";
import "../throttle-budget.test.ts";
import "../throttle-summary.test.ts";
import "../throttle.test.ts";
