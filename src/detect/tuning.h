/*
 * tuning.h - every constant of the adaptive engine, in one place, with the reason for its size.
 *
 * A step is 10 s: the unit in which baselines learn. Windows are 10 s and 60 s.
 */
#ifndef WEIR_DETECT_TUNING_H
#define WEIR_DETECT_TUNING_H

#define STEP_S 10
#define WINDOW_STEPS 6 /* the 1-minute window */
#define LONG_STEPS 30  /* the 5-minute window */

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

#define SHARED_KEYS 4          /* keys, or users, behind one address: a NAT, a gateway */
#define SHARED_AGENTS 6
#define FRESH_MIN_S 60.0       /* an address is new for a quarter of what the stream is old, within these */
#define FRESH_MAX_S 1800.0
#define FULL_MAX 4096          /* identities whose habits are kept, 1.6 KB each */
#define FULL_REQUESTS 20.0
#define FULL_REQUESTS_KEY 10.0 /* keys are fewer, and where they are used from must be known early */
#define FULL_IDLE_S 3600       /* who was silent for so long may be forgotten for another */
#define USUAL_STEPS 3          /* how everybody's requests look is looked at every half minute */
#define USUAL_ARRIVALS 10      /* requests in a minute that say how requests look */

/* Retries: by the client's own word, so no more of them is excused than a failure explains, and only to whom we know */
#define RETRY_WITHIN_S 70      /* after the failure: SDKs wait at most 8 s of their own, and up to a minute where the server says so */
#define RETRY_KNOWN_STEPS 30   /* five minutes of its own: an attack is told of before */
#define RETRY_TIMES 5.0        /* what is usual of the source: SDKs try twice more by default, busy customers set five */

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
#define PEAK_HALF_GENERATIONS 432.0 /* three days */
#define FADE_OF_AGE 2.0       /* in the beginning everybody is new: peaks of new sources halve in half the time the stream is old */
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
#define FEW_Z 2.5              /* each of them, against its own past */
#define FEW_RATIO 2.0
#define SCOPE_SHARE 0.8        /* a smaller scope is taken when it explains this much of the larger one's excess */
#define TOP_SHARE 0.1          /* below nobody is named */

/* A rise that nobody explains */
#define RISE_WARN_RATIO 5.0
#define RISE_STEPS 60

/* Cost: five minutes of tokens */
#define COST_STEPS 36          /* known for six minutes at least, else there is no past */
#define COST_FIRST_STEPS 90    /* a quarter of an hour: until then a minute is judged, */
#define COST_FIRST_WORKED 3u   /* of whoever sent something in so many steps, */
#define COST_FIRST_REQUESTS 20.0
#define COST_FIRST_RATIO 12.0  /* by so many times its own, */
#define COST_FIRST_SIZE 6.0    /* with requests so many times as long as the others', */
#define COST_FIRST_LARGER 0.7  /* and (log) as its own before: a long talk is one, too */
#define COST_FIRST_Z 8.0       /* and so many sigma */
#define COST_WORKED 30u         /* steps with requests of its own */
#define COST_MIN_300 8000.0    /* tokens of excess */
#define COST_LIFT 0.05         /* of all tokens expected */
#define COST_RATIO 2.5
#define COST_NET_RATIO 1.8     /* of an address's network */
#define COST_OF_PEAK 0.1       /* what is usual is not less than this share of its own peaks */
#define COST_Z 4.0             /* sigma on the scale of counts */
#define COST_HABIT 1.45        /* times its own peaks */
#define COST_SAME 2.3          /* the same where its requests are no larger than usual, */
#define COST_LARGER_Z 6.0      /* up to so surely larger */
#define COST_YOUNG 120.0      /* steps: a peak of so few is worth half */
#define COST_COLD 360.0        /* the same for a stream that has just begun */
#define COST_QUICK 2.0         /* times what five minutes must show, in one minute */
#define COST_CALLS 10.0        /* requests in the window: a few huge prompts are no trend */
#define COST_CALLS_60 5.0      /* in the minute */
#define COST_NEEDS 3           /* steps */

/* Cost: requests larger than ever, as the mean of log tokens over five minutes */
#define SIZE_LEARN_N 4.0       /* requests in five minutes that say how large they are, */
#define SIZE_REQUESTS 10.0     /* and that can be news */
#define SIZE_BLOCKS 6u         /* five minutes each, before anything is judged */
#define SIZE_YOUNG 10.0        /* after so many blocks the bar is twice as high */
#define SIZE_Z 4.0
#define SIZE_HABIT 1.3         /* times its own largest z */
#define SIZE_KEEP 0.9992       /* a block: half in three days */
#define SIZE_RATE 0.005        /* a block: mean and wandering of the last 17 hours with traffic */
#define SIZE_CLAMP 1.0         /* what one block teaches of wandering */
#define SIZE_WANDER_MIN 0.01   /* 10 %: nobody is steadier */
#define SIZE_LEAST 0.3         /* e^0.3: a third more tokens per request */
#define SIZE_OF_PEAK 0.8       /* the bill of its dearest five minutes */
#define SIZE_RATIO 1.5         /* times its usual one */
#define SIZE_LIFT 0.002       /* of all tokens expected: what is so sure need not be much */
#define SIZE_MIN_300 3000.0    /* tokens of excess */

/* Errors: a run of failures is judged by the log likelihood of a burst against the usual share, summed (CUSUM) */
#define ERROR_PRIOR 0.01
#define ERROR_PRIOR_N 200.0
#define ERROR_HALF_N 20000.0   /* requests after which half of the share learnt is forgotten */
#define ERROR_MIN 8.0          /* failures: fewer are a hiccup */
#define ERROR_USUAL_MIN 0.01   /* nobody promises less */
#define ERROR_USUAL 1.5        /* times the mean share: shares wander */
#define ERROR_BURST_MIN 0.10   /* the share that a burst has at least, */
#define ERROR_BURST 4.0        /* and times the usual one */
#define ERROR_H 14.0           /* random failures at 1 %: one such run in a million requests */
#define ERROR_CAP 2.5          /* x H: so that the end shows */
#define ERROR_HABIT 1.3        /* above the runs of its own calm times */
#define ERROR_HABIT_MAX 2.0    /* x H: it never gets used to more */
#define ERROR_HABIT_KEEP 0.99999 /* a second: half in 19 h */
#define ERROR_LATE_KEEP 0.99423  /* a second: half in 2 min, what is compared to find the scope */
#define ERROR_REST 5.0         /* requests that did not fail elsewhere, before it is one model's trouble */
#define ERROR_REST_SHARE 0.35  /* of the model's share of errors: the rest has nothing */

/* Drop: windows of 2, 5 and 15 min against the three times as long before them and the hour's median */
#define DROP_STEPS 30          /* steps after which an identity's dispersion teaches the pool */
#define DROP_YOUNG_MINUTES 20
#define DROP_KNOWN_MINUTES 45.0 /* a customer must be known for so long before he is missed, */
#define DROP_KNOWN_SHARE 0.6   /* and for so much of the stream's age, */
#define DROP_KNOWN_MAX 720.0   /* or for twelve hours */
#define DROP_SLOW 1.3          /* times the level of its last six hours is the most that is promised */
#define DROP_CUSTOMER_SHARE 0.1 /* of all requests: below, nobody is called for it */
#define DROP_SHARE 0.75        /* what is left, at most */
#define DROP_BAR 1.18          /* times all that is asked of a fall: between 1 and this, two of three were customers who left by themselves */
#define DROP_Z 5.0
#define DROP_LOST 12.0         /* requests that did not come: fewer are chance */
#define DROP_CUSTOMER_LOST 25.0
#define DROP_HABIT 1.3         /* above its own largest fall, */
#define DROP_CLIMB 1.1         /* and rise; */
#define DROP_HABIT_ALL 1.4     /* the same of the total */
#define DROP_CLIMB_ALL 0.9
#define DROP_YOUNG 60.0        /* minutes at which thresholds are half as high again */
#define DROP_PEAK_KEEP 0.99976 /* a minute: half in two days */
#define DROP_SD_HALF 720.0     /* minutes */
#define DROP_SD_PRIOR 30.0
#define DROP_SILENCE 14.0      /* expected requests, over the dispersion, that did not come */
#define DROP_SILENCE_S 25
#define DROP_CUSTOMER_SILENCE_S 60
#define DROP_QUIET 1.6         /* times the longest silence it is known for */
#define DROP_CUSTOMER_SILENCE 2.0 /* customers pause: times as long */
#define DROP_CUSTOMER_Z 1.25    /* and come and go */
#define DROP_AGAIN 1.5         /* an alarm that ended raises the habit by half at most */
#define DROP_ONE 0.7           /* of the loss: one customer explains it */
#define DROP_EXCUSED 0.2       /* of the loss: the customers that are looked at one by one, whether they are wont to go */
#define DROP_NATIVE_S 1800     /* who is there from the beginning did not rise from nothing */
#define RAMP_MINUTES 40        /* in which a fall is sudden or slow; */
#define RAMP_LONGEST 14
#define RAMP_LLR 3.0           /* log likelihood of a slow one: 20 to one */

/* Seasons */
#define SEASON_JUDGED 2        /* days over which forecasts are compared */
#define SEASON_BETTER 0.95     /* of the plain forecast's error: chance alone reaches 0.97 */
#define SEASON_MEMORY 4        /* days, or weeks, that a profile is the mean of */
#define SEASON_MOST 1.1        /* log: no profile moves an expectation by more than three times */
#define SEASON_SHARE 0.05      /* of all requests: customers that get a profile, a kilobyte each; FULL_MAX bounds them */

/* Incidents */
#define INCIDENTS_MAX 64
#define LEAVE_FACTOR 0.6
#define LEAVE_S 30
#define LEAVE_COST_S 120       /* a key that makes five calls a minute is silent for longer than a flood */
#define REOPEN_S 300
#define JOIN_S 600             /* others that begin the same within ten minutes belong to it */
#define JOIN_GROWTH_S 7200     /* drifts take their time */
#define PHASE_S 300            /* an incident that old, and its actors do something else: a new one */
#define PHASE_STRENGTH 1.5
#define COOL_S 120             /* after the end: what still stands in a window, or is still being answered, is no news */
#define ACCEPT_S 1800
#define ACCEPT_SURE_S 14400    /* of many at ODDS_CERTAIN, keys in many hands and refusals: customers do not behave like this, it is no new level, it just goes on;
				* of crowds: nobody is woken, and after half an hour they would be told of again */
#define UPDATE_S 60
#define UPDATE_FAST_S 10       /* a change of class or severity waits for so long only */
#define ECHO_STRENGTH 1.5      /* the same again, within COOL_S of its end, must be so strong */
#define STARTUP_STEPS 1        /* whole steps before anything is judged */

/* The plain band of a p99, for evidence */
#define BAND_REQUESTS 20.0     /* in five minutes: the p99 of fewer is their slowest */
#define BAND_LOOKS 12.0f       /* windows: an hour */
#define BAND_WEEK 2016.0       /* windows of a week, the memory of mean and variance */
#define BAND_SD 0.05           /* log: no p99 is steadier than 5 % */

/* False-alarm budget: hourly peaks of the strength of findings, above LEAVE_FACTOR */
#define BUDGET_SHARE 0.25      /* of peaks above the tail's threshold, */
#define BUDGET_THRESHOLD 0.4   /* which is believed to be here: a quarter of what is nearly an alarm is one, */
#define BUDGET_EXCESS 0.3      /* and so much stronger, until there are some */
#define BUDGET_PEAKS 200.0     /* of which half is forgotten: what 128 are fitted to are of about that time */
#define BUDGET_HOURS 672.0     /* four weeks: half of what was counted is forgotten */
#define BUDGET_PEAK_MAX 5.0    /* what one hour teaches */
#define BUDGET_LEARN_H 1       /* hours in which everybody is new */
#define BUDGET_KNOWN_H 24.0    /* before anything is said of a week */
#define BUDGET_LEAST 0.625     /* detectors report from LEAVE_FACTOR on */
#define BUDGET_MOST 2.0        /* nobody who rings all day makes it deafer than that */

/* The same each day at the same hour */
#define ROUTINES 256           /* customers whose incidents are remembered */
#define ROUTINE_DAYS 2u        /* on so many days it rang; then it is told as an info, */
#define ROUTINE_REACH_DAYS 4   /* of the last ones: a weekend may lie between */
#define ROUTINE_WITHIN_S 2700  /* how far the hour may wander: a batch starts when the one before it is done */
#define ROUTINE_MORE 1.5       /* times the largest of them; what is more rings again */

/* Second opinion */
#define OPINION_ODD 2.5        /* sigma-equivalent of a look among calm ones: odd, */
#define OPINION_PLAIN 1.6      /* or like one in twenty */
#define OPINION_WEIGHT 0.1     /* of what is missing to certainty: it says little of the class */

/* Feedback */
#define FEEDBACK_MORE 1.3      /* times the excess that was called a false positive: what is more is told */
#define FEEDBACK_MOST 4.0      /* times the first such excess: further labels for the same do not reach beyond */
#define FEEDBACK_SHARP 0.8     /* times the thresholds of what was called a true positive */
#define FEEDBACK_CAPPED 0.9    /* strength of what detectors hold back whatever its size */

#define LEAVE_VOLUME_S 120    /* pulses are one attack */
#define LEAVE_SURE_S 300      /* at ODDS_CERTAIN: its pauses may be as long */
#define LEAVE_ERROR_S 60
#define ACCEPT_ERROR_S 21600 /* nobody gets used to a broken model within half an hour */
#define LEAVE_DROP_S 90
#define ACCEPT_DROP_S 14400
#define DROP_CRITICAL_S 120 /* a silence is critical after so long */
#define LEAVE_ACCESS_S 300
#define LEAVE_BEHAVE_S 300
#define LEAVE_LOOKS 2.0        /* and not before so many more looks were due: who asks twice a minute is looked at every five */
#define LEAVE_LATENCY_S 120
#define LEAVE_GROWTH_S 7200
#define ACCEPT_GROWTH_S 86400

/* Volume: what is looked at, and what kind of traffic an excess is (log odds of attack against customers) */
#define FRESH_HABIT 1.2
#define RISEN_MIN 3.0
#define RAMP_MIN 20
#define USUAL_LOOKS 3
#define CROWD_NEEDS 20
#define RISE_FEW_HABIT 1.1
#define SOURCE_BASE -2.2
#define SOURCE_LIFT 2.0
#define SOURCE_QUIET -1.0      /* below these log odds one source's rise is not told, above it is an info, from 0 a warning */
#define SURE_ODDS 1.5
#define CROWD_BASE -1.2
#define CROWD_BLIND 0.4        /* neither agents nor prompts are known */
#define CROWD_LIFT 0.5
#define CROWD_AGENT 1.3
#define CROWD_KEYLESS 1.0
#define CROWD_EVEN 0.9
#define CROWD_RAMP 0.8
#define CROWD_EXPECTED 1.5     /* a crowd is on the calendar: an attack then needs better evidence, and can have it */
#define ODDS_MEMORY 0.05       /* a second: odds of the last half minute, */
#define ODDS_TURN 1.1          /* which must be 3 to 1 before the class that was told is another */
#define ODDS_LEAST 0.55        /* of the thresholds, for what is certainly an attack, */
#define CROWD_LEAST 0.42       /* the same of many: a dozen who act alike are no chance */
#define ODDS_CERTAIN 3.0       /* at these log odds */
#define ODDS_ATTACK 1.0        /* of many: below, they are a crowd; nobody is woken by a crowd */
#define ODDS_HABIT 2.0         /* from here on the peaks of the past excuse nothing */
#define CROWD_FRESH 0.4        /* of the excess of a flash crowd comes from new addresses */
#define CROWD_Z 4.0
#define CROWD_KEY_NETWORKS 8u
#define CROWD_SLOW 1.5         /* a crowd that ramps for an hour must not become what is usual */
#define CROWD_SHARE 0.3        /* of all requests expected in five minutes */
#define CROWD_MIN 60.0
#define CROWD_FEW 8u
#define CROWD_SOURCES 8u       /* addresses, if they are new; */
#define CROWD_KNOWN 25u        /* if they were here before */
#define ODDS_SAME 1.2
#define ODDS_NEAR 1.3
#define ODDS_ENTROPY 1.0
#define ODDS_SHORT 1.1
#define ODDS_REFUSED 1.0
#define ODDS_LIMITED 0.5
#define ODDS_NARROW 0.9
#define ODDS_RHYTHM 0.6

/* Access */
#define SHARING_WINDOW_S 1200  /* in which networks are new */
#define SHARING_YOUNG_S 600    /* a key's first networks are its own */
#define SHARING_STEP_S 600     /* the unit of its habit */
#define SHARING_LAMBDA 0.3     /* new networks that anybody may have in a window */
#define SHARING_MIN_NETS 4.0   /* a customer whose egress moves gets two or three */
#define SHARING_Z 2.0
#define SHARING_PEAK 1.3       /* times its own busiest ten minutes */
#define SHARING_KNOWN 0.5      /* of the networks known before: who uses many gets more of them */
#define SHARING_LEARNT_S 3600  /* after its first request its habit is known; until then, */
#define SHARING_MANY 30.0      /* where it came from so many from the beginning, */
#define SHARING_NOVELTY 1.2    /* so many times as many of its requests must come from new ones as before */
#define SHARING_RATIO 4.0      /* times what is usual: of a key used from everywhere more come at noon */
#define SHARING_NEEDS 9        /* steps: an audience is four at first, and a crowd a minute later */
#define SHARING_SHARE 0.08     /* of its requests come from the new ones */
#define SHARING_REQUESTS 5.0
#define SHARING_OLD_S 3600     /* the old ones are still in use */
#define SHARING_PEAK_KEEP 0.995 /* a ten minutes: half in a day */
#define CROWD_NETS 4.0        /* so many, and either new users with them, */
#define CROWD_USERS 0.5
#define CROWD_OF_ALL 0.4       /* or so much of all that is expected: not one key's thieves but an audience */
#define AUTH_MIN 12.0
#define AUTH_MIN_300 30.0
#define AUTH_NOISE 31.0        /* requests without a credential: every public address is asked for two dozen pages, by scanners that go on to the next */
#define AUTH_NOISE_S 90        /* within so long */
#define AUTH_KEYLESS 0.5       /* of the refused: that is such */
#define AUTH_MAIN 0.7
#define AUTH_Z 6.0
#define AUTH_HABIT 1.3
#define AUTH_SHARE 0.5         /* of the requests of those who are refused */

/* Behaviour */
#define NATIVE_S 600           /* who is there from the beginning is what he is, */
#define NATIVE_LOOKS 12u       /* for so many looks */
#define NATIVE_FIRST_S 7200    /* and not for longer than this: who sends a handful an hour would be so for days, */
#define NATIVE_ODDS 3.0        /* but it takes these log odds to tell of one of whom so little is known */
#define ACCEPT_LOOKS 12u       /* what an accepted behaviour weighs */
#define SCRAPE_SHORT 1.0       /* log tokens below its past */
#define PAST_LOOKS 5.0
#define BEHAVE_WINDOW_S 300
#define BEHAVE_SLOW_S 1800     /* for whoever sends fewer than */
#define BEHAVE_SAMPLE 30u
#define BEHAVE_WANDER 2.0      /* of its own deviations are no news */
#define BEHAVE_OWN 4.0         /* a key that sends so many times more than the address is not only his */
#define BEHAVE_LEARN -0.5      /* log odds below which it is ordinary, and learnt */
#define PROBE_LENGTHS 0.5      /* edits of one prompt are of one length */
#define BEHAVE_MIN 15u
#define BEHAVE_EVERY 10.0
#define BEHAVE_NEW 0.15        /* share of what a look sees that must be new for the next */
#define BEHAVE_PAUSE_S 20
#define BEHAVE_STEPS 30
#define CAP_LEAST 32.0         /* tokens: shorter answers are of one length by chance */
#define SCRAPE_BASE -3.2
#define SCRAPE_SURE 0.5        /* log odds at which a flood turns out to be scraping, */
#define SCRAPE_MOST 1.0        /* of all requests expected: more is a flood, whatever for, */
#define SCRAPE_SEEN_S 60       /* and as long as it is seen to scrape, it does not flood */
#define SCRAPE_RHYTHM 1.0
#define SCRAPE_NEAR 1.2
#define SCRAPE_DISTINCT 0.5
#define SCRAPE_CAP 1.3
#define SCRAPE_LOGPROBS 1.3
#define SCRAPE_LONG 0.7
#define PROBE_BASE -2.0
#define PROBE_INJECTED 0.12    /* of injection score above what is usual */
#define PROBE_OTHERS 0.5       /* times that: while others show as much, it is one of them */
#define PROBE_INJECTION 1.6
#define PROBE_NEAR 1.0
#define PROBE_SHORT 1.0
#define PROBE_REFUSED 0.8

/* Unbilled compute: shares of what an engine computed, above those that are usual there */
#define UNBILLED_MIN_300 3000.0 /* tokens in five minutes that nobody was told of, */
#define UNBILLED_SHARE_300 0.3  /* and so much of all: what is under way at the ends of the window is not */
#define UNBILLED_MIN_3600 20000.0
#define UNBILLED_SHARE_3600 0.12
#define UNBILLED_GOES_ON 0.04   /* of the last five minutes: what the hour saw is still so */
#define UNBILLED_NEEDS 6        /* steps */
#define UNBILLED_WARNING 1.7    /* times that: a warning, below an info */
#define UNBILLED_LEARN 0.02     /* a step: half in 6 min */
#define UNBILLED_KEEP 0.9996    /* a step: half in 5 h */
#define UNBILLED_USUAL_MAX 0.5  /* nobody's engine may work for nobody most of the time */
#define LEAVE_UNBILLED_S 120

/* Growth: log tokens per request, in blocks of ten minutes and of an hour; a ramp against a constant and against one step */
#define GROWTH_BLOCK_S 600
#define GROWTH_HOUR_S 3600
#define GROWTH_LEAST 0.18      /* e^0.18: 20 % more tokens per request, */
#define GROWTH_SHARE 0.02       /* of all tokens, for a customer */
#define GROWTH_YOUNG_S 14400.0 /* twice that after four hours of life */
#define GROWTH_LLR 12.0        /* of a ramp against nothing: 160,000 to one */
#define GROWTH_NO_STEP 3.0     /* of a ramp against the best single step: 20 to one */
#define GROWTH_HABIT 1.3       /* times its own largest drift */
#define GROWTH_HABIT_KEEP 0.9984 /* a ten-minute block: half in three days */
#define GROWTH_WANDER 1.4      /* times what others drift, too */
#define GROWTH_OTHERS 256u     /* customers looked at for that */
#define GROWTH_SIDE_N 30.0     /* requests before and on the ramp */
#define GROWTH_SIDE_BLOCKS 4   /* blocks with any, before and on the ramp */
#define GROWTH_STANDS 0.6      /* of the growth is still there */
#define GROWTH_MOVE_N 5.0      /* requests in a block that show how it moves */
#define GROWTH_MOVES 500.0     /* pairs of blocks remembered: three days and a half */
#define GROWTH_MOVE_PRIOR 20.0 /* pairs that what others do is worth */
#define GROWTH_MOVE_CLAMP 1.0
#define GROWTH_MOVE_LEAST 0.1  /* nobody is steadier */
#define GROWTH_RESTLESS 3.0    /* times that deviation is news, */
#define GROWTH_RESTLESS_ONE 4.0 /* of one whose moves are known */
#define GROWTH_REF_N 50.0      /* requests before a customer's own mean is one */
#define GROWTH_REF_HALF 20000.0 /* requests after which half of it is forgotten */
#define GROWTH_JITTER 0.0009   /* 3 %: no mean of ten minutes is steadier */
#define GROWTH_ONE 0.6         /* of the growth of a model or of all: one customer explains it */
#define GROWTH_REST 0.4        /* of one customer's growth, among the others: everybody's */

/* Latency: residuals of a regression on the load, as means of one and of five minutes */
#define LATENCY_FORGET 0.9998  /* a request: half in 3,500 */
#define LATENCY_LEARN 300      /* requests before the fit says anything */
#define LATENCY_SHORT_N 12.0   /* requests in a minute that can be judged, */
#define LATENCY_LONG_N 10.0    /* in five minutes */
#define LATENCY_CLAMP 1.0      /* what one request may say, log: one straggler is no regression */
#define LATENCY_STRAY 0.5      /* what one request may say of what is usual, */
#define LATENCY_RISE 0.1       /* and the mean of a window above that, for anybody to notice */
#define LATENCY_SD 0.03
#define LATENCY_Z 5.0
#define LATENCY_LONG_Z 5.5     /* of five minutes: judged with few requests, whose tails are long */
#define LATENCY_LEAST 0.18     /* log: 20 % slower */
#define LATENCY_HABIT 1.2      /* above its own largest excursions: queues that the load did not explain */
#define LATENCY_HABIT_KEEP 0.99992 /* a step: half in a day */
#define LATENCY_HABIT_AGAIN 1.4 /* an alarm that ended raises the habit by so much at most */
#define LATENCY_LOOKS 180      /* steps before anything is judged: half an hour */
#define LATENCY_NEEDS 4        /* steps */
#define LATENCY_MUCH 0.4       /* log: half as slow again */
#define ACCEPT_LATENCY_S 21600 /* so long slower, and it is how things are; */
#define ACCEPT_LATENCY_LITTLE_S 3600 /* a little slower */

#endif
