// Never loaded: one variable of every shared type, so that the BTF of this object describes the whole contract.
#include "contract.h"

enum hook hook_values;
enum untracked untracked_values;
enum limits limits_values;
struct flow_record flow_record_layout;
struct drop_record drop_record_layout;
struct socket_record socket_record_layout;
struct table_set table_set_layout;
struct tally tally_layout;
struct totals totals_layout;
struct drop_totals drop_totals_layout;
struct dns_event dns_event_layout;
struct clock clock_layout;
struct settings settings_layout;
