/*
 * tuning.h - every constant of the adaptive engine, in one place, with the reason for its size.
 *
 * A step is 10 s: the unit in which baselines learn. Windows are 10 s and 60 s.
 */
#ifndef WEIR_DETECT_TUNING_H
#define WEIR_DETECT_TUNING_H

#define STEP_S 10
#define WINDOW_STEPS 6 /* the 1-minute window */

/* The clock */
#define LATENESS_S 2.0
#define FUTURE_S 3600.0        /* a timestamp further ahead of the newest must be confirmed before the clock follows it */
#define FUTURE_CONFIRM 3       /* by so many records in a row */
#define DURATION_MAX_S 3600.0  /* a longer request completes, for the engine, after an hour */
#define SKIP_AFTER_S 172800    /* silence is ticked through for two days; the rest of a longer one is skipped */
#define PENDING_MAX (1u << 18) /* feeds waiting for their second; beyond, they count at once */
#define WEIGHT_SANE 1e9
#define TOKENS_SANE 1e8 /* per request; ten times the longest context sold. More is counted as this much */

/* Entities: full state each, about 300 bytes with the name */
#define ENTITIES_CLIENT_IP 131072
#define ENTITIES_API_KEY 65536
#define ENTITIES_USER 65536
#define ENTITIES_NETWORK 65536
#define ENTITIES_MODEL 1024
#define ENTITIES_SERVER 1024
#define ENTITY_NAME_MAX 128 /* of a longer name this much is kept; the hash tells them apart */
#define IDLE_STEPS 6        /* without traffic for a whole window an entity leaves the list of the active */

#define SHARED_KEYS 4          /* keys, or users, behind one address: a NAT, a gateway */
#define SHARED_AGENTS 6
#define FRESH_MIN_S 60.0       /* an address is new for a quarter of what the stream is old, within these */
#define FRESH_MAX_S 1800.0
#define FULL_MAX 4096          /* identities whose habits are kept, 1.6 KB each */
#define FULL_REQUESTS 30.0
#define FULL_IDLE_S 3600       /* who was silent for so long may be forgotten for another */
#define USUAL_ARRIVALS 10      /* requests in a minute that say how requests look */

/* Baselines */
#define HALF_FAST_STEPS 60.0   /* 10 min: follows the day */
#define HALF_SLOW_STEPS 2160.0 /* 6 h: remembers what this entity has been */
#define LEVEL_SLOW 0.5
#define HALF_DISP_STEPS 1080.0 /* 3 h */
#define DISP_PRIOR 2.0         /* variance/mean before anything is known */
#define DISP_PRIOR_STEPS 6.0   /* and how many steps that guess is worth */
#define CLAMP_SD 4.0           /* what one step may teach */
#define CLAMP_RUN 10           /* so many clamped steps of one sign are no outliers: learn the level */
#define PEAK_STEPS 60          /* a peak becomes a habit after this long: an attack must not excuse itself */
#define PEAK_HALF_GENERATIONS 144.0 /* a day */
#define PRIOR_STEPS 60         /* what the pool's mean is worth for an entity never seen: 10 min */
#define YOUNG_INFLATION 6.0    /* variance of a test n steps after the start: times 1 + this/n */

/* Flood */
#define Z_ENTER 5.0
#define Z_KNOWN 6.5             /* for whoever has traffic of his own: customers burst */
#define Z_SURE 10.0            /* one tick is enough */
#define Z_GLOBAL 1.5           /* the total must be lifted too; the source's own jump is the main evidence */
#define FLOOD_MIN_10 12.0      /* requests of excess in the window: about 1/s, which no server minds */
#define FLOOD_MIN_60 30.0
#define FLOOD_LIFT 0.5         /* excess of the source against all that is expected */
#define FLOOD_RATIO 3.0        /* against its own past */
#define HABIT 1.2              /* against its own peaks, and for a young entity those of its kind */
#define RIPE_STEPS 120         /* 20 min */
#define FEW_SOURCES 5
#define FEW_SHARE 0.7          /* of the excess, held by few sources together */
#define FEW_Z 4.0              /* each of them, against its own past */
#define FEW_RATIO 2.0
#define SCOPE_SHARE 0.8        /* a smaller scope is taken when it explains this much of the larger one's excess */
#define TOP_SHARE 0.1          /* below nobody is named */
#define TOP_MIN 3.0            /* sigma above its own past, for whoever is named */

/* A rise that nobody explains */
#define RISE_Z 6.0
#define RISE_RATIO 2.5
#define RISE_WARN_RATIO 5.0
#define RISE_MIN_60 60.0
#define RISE_STEPS 60

/* Cost */
#define COST_STEPS 60          /* known for 10 min at least, else there is no past */
#define COST_NEW_STEPS 6       /* whoever is known for a minute only must be */
#define COST_NEW_RATIO 12.0    /* so many times above his short past, */
#define COST_NEW_SIZE 6.0      /* with requests so many times as long as the others' */
#define COST_REQUESTS 20.0
#define COST_MIN_60 6000.0     /* tokens of excess a minute */
#define COST_LIFT 0.1          /* of all tokens expected */
#define COST_RATIO 3.0
#define COST_HABIT 1.3
#define COST_CALLS 5.0         /* requests in the window: one huge prompt is no trend */
#define COST_Z 6.0
#define COST_YOUNG_Z 8.0

/* Errors */
#define ERROR_PRIOR 0.01
#define ERROR_PRIOR_N 200.0
#define ERROR_HALF_N 20000.0   /* requests after which half of the share learnt is forgotten */
#define ERROR_MIN 8.0
#define ERROR_SHARE 0.12
#define ERROR_Z 6.0

/* Drop */
#define DROP_STEPS 30
#define DROP_CUSTOMER_STEPS 360 /* an hour of steady life */
#define DROP_CUSTOMER_SHARE 0.2
#define DROP_SHARE 0.3
#define DROP_Z 6.0
#define DROP_SILENCE 20.0      /* expected requests, over the dispersion, that did not come */
#define DROP_SILENCE_S 30
#define DROP_CUSTOMER_SILENCE_S 60
#define DROP_GAP 3.0           /* times the longest silence it is known for */
#define DROP_TICKS 10

/* Incidents */
#define INCIDENTS_MAX 64
#define LEAVE_FACTOR 0.6
#define LEAVE_S 30
#define LEAVE_COST_S 120       /* a key that makes five calls a minute is silent for longer than a flood */
#define REOPEN_S 300
#define JOIN_S 600             /* others that begin the same within ten minutes belong to it */
#define PHASE_S 300            /* an incident that old, and its actors do something else: a new one */
#define PHASE_STRENGTH 1.5
#define COOL_S 120             /* after the end: what still stands in a window, or is still being answered, is no news */
#define HABIT_STEP 2.0         /* an alarm that ended by itself may raise the habit of a known entity to so many times what it was */
#define ACCEPT_S 1800
#define UPDATE_S 60
#define UPDATE_FAST_S 10       /* a change of class or severity waits for so long only */
#define ECHO_STRENGTH 1.5      /* the same again, within COOL_S of its end, must be so strong */
#define STARTUP_STEPS 1        /* whole steps before anything is judged */

#define LEAVE_VOLUME_S 45
#define LEAVE_ERROR_S 60
#define LEAVE_ACCESS_S 300
#define LEAVE_BEHAVE_S 300
#define LEAVE_LATENCY_S 120
#define LEAVE_GROWTH_S 7200
#define ACCEPT_GROWTH_S 86400

/* Volume: what is looked at, and what kind of traffic an excess is (log odds of attack against customers) */
#define FRESH_SHARE 0.4
#define RISEN_MIN 3.0
#define RAMP_MIN 20
#define USUAL_LOOKS 6
#define CROWD_NEEDS 20
#define RISE_FEW_HABIT 1.1
#define ODDS_BASE -0.5
#define ODDS_AGENT 1.0
#define ODDS_ALIKE 1.3
#define ODDS_ENTROPY 1.0
#define ODDS_SHORT 0.8
#define ODDS_ERRORS 1.2
#define ODDS_LIMITED 0.4
#define ODDS_NARROW 0.7
#define ODDS_KEYLESS 0.7
#define ODDS_RHYTHM 0.5
#define ODDS_RAMP 1.0

/* Access */
#define SHARING_WINDOW_S 600
#define SHARING_LAMBDA 0.3
#define SHARING_MIN_NETS 3.0
#define SHARING_Z 2.0
#define SHARING_MINUTES 20u
#define SHARING_SHARE 0.1
#define SHARING_REQUESTS 4.0
#define AUTH_MIN 12.0
#define AUTH_Z 6.0
#define AUTH_HABIT 1.3
#define AUTH_SHARE 0.5         /* of the requests of those who are refused */

/* Behaviour */
#define NATIVE_S 600           /* who is there from the beginning is what he is, */
#define NATIVE_LOOKS 12u       /* for so many looks */
#define ACCEPT_LOOKS 12u       /* what an accepted behaviour weighs */
#define SCRAPE_SHORT 1.0       /* log tokens below its past */
#define PAST_LOOKS 5.0
#define BEHAVE_WINDOW_S 300
#define BEHAVE_MIN 15u
#define BEHAVE_EVERY 15.0
#define BEHAVE_PAUSE_S 20
#define BEHAVE_STEPS 30
#define SCRAPE_BASE -3.0
#define SCRAPE_RHYTHM 1.0
#define SCRAPE_NEAR 1.2
#define SCRAPE_DISTINCT 0.5
#define SCRAPE_CAP 1.3
#define SCRAPE_LOGPROBS 1.3
#define SCRAPE_LONG 0.7
#define PROBE_BASE -2.0
#define PROBE_INJECTION 1.6
#define PROBE_NEAR 0.8
#define PROBE_SHORT 0.8
#define PROBE_REFUSED 0.8

/* Growth: blocks of ten minutes, log tokens per request */
#define GROWTH_MIN 10.0
#define GROWTH_SD_MIN 0.04
#define GROWTH_SLACK 0.75
#define GROWTH_H 10.0
#define GROWTH_LEAST 0.12
#define GROWTH_RATE 1.6
#define GROWTH_BLOCKS 12u
#define GROWTH_SLOW_BLOCKS 432.0 /* three days */

/* Latency */
#define LATENCY_FORGET 0.9998
#define LATENCY_LEARN 60
#define LATENCY_MIN 12
#define LATENCY_SD 0.03
#define LATENCY_Z 4.0
#define LATENCY_LEAST 0.18
#define LATENCY_H 6.0
#define LATENCY_LOOKS 60

#endif
