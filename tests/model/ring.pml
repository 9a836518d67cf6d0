/*
 * ring: publish, lease, commit, claim, progress, done and gate, as in common/shm/cmq_layout.h. Spin model.
 *
 * Happy path:
 *   - a producer writes its record, then publishes it with one CAS on pub[n];
 *   - an encryptor leases n, reads it, and commits the result with one CAS on out[n]; the first one wins;
 *   - a dispatcher claims n with one CAS on owner[n], delivers message after message, notes its progress by CAS;
 *   - the last message delivered, it sets owner[n] to DONE by CAS;
 *   - anyone moves the gate over what is done; producers may publish n only while n < gate + SLOTS.
 *
 * What can go wrong, at every step and any number of times:
 *   - any process dies and starts again as a new incarnation. A death of a producer or an encryptor leaves nothing but
 *     what its CAS did; a dispatcher leaves claims whose owner is dead;
 *   - an encryptor steals any uncommitted record at ANY time, a dispatcher takes over any claim at ANY time (with
 *     TAKE_DEAD: only claims of the dead), so nothing here depends on knowing who is dead, or on time;
 *   - a process stops for any time and goes on with what it knew (every interleaving is explored);
 *   - a dispatcher releases a record that nobody takes from it;
 *   - the tail hint is any number.
 *
 * Checked:
 *   loss      every message of every record is delivered at least once, before its slot is used again
 *   order     records get their number in CAS order without holes; they are claimed first in exactly that order, and
 *             the messages of a record are delivered in order
 *   progress  only what is delivered is noted; a word never goes back, neither its lap nor its progress
 *   gate      rises by one, over done records only; gate <= committed <= published
 *   identity  what is committed and delivered as record n is what was published as n
 *   end       no deadlock: all processes end, and then all records are done
 *
 * The lease word is left out: as stealing is allowed at any time, it stops nobody (mutant NO_STEAL brings it in).
 * A dead owner is written as DEAD into its words when it dies, so that its id can be used again at once: ids are reused
 * more eagerly than the program does, and deaths need no budget.
 */

#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef PRODUCERS
#define PRODUCERS 1
#endif
#ifndef RECORDS
#define RECORDS 3           /* per producer */
#endif
#ifndef ENCRYPTORS
#define ENCRYPTORS 1
#endif
#ifndef DISPATCHERS
#define DISPATCHERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 2          /* per record */
#endif

#define TOTAL  (PRODUCERS * RECORDS)
#define LAP(n) ((n) / SLOTS + 1)
#define IX(n)  ((n) % SLOTS)
#define DONE   15
#define ALL    ((1 << MESSAGES) - 1)
#define NOBODY 14
#define DEAD   15

byte pub_lap[SLOTS], pub_id[SLOTS];
byte out_lap[SLOTS], out_id[SLOTS];
byte own_lap[SLOTS], own_who[SLOTS], own_progress[SLOTS];
byte gate;

/* Ghosts: no process looks at them. */
byte order[TOTAL];          /* id of record n */
byte published, committed, claimed;
byte delivered[TOTAL];      /* bit per message */

#ifdef NO_STEAL
byte lease_lap[SLOTS];
#define LEASABLE(n) (lease_lap[IX(n)] != LAP(n))
#define LEASE(n)    lease_lap[IX(n)] = LAP(n)
#else
#define LEASABLE(n) true
#define LEASE(n)    skip
#endif

/* ---- ingest ---- */

proctype Producer(byte id)
{
    byte i, n, seen;
    do
    :: i < RECORDS ->
        /* The hint: any number of the window. */
        atomic {
            n = gate;
            do
            :: n < gate + SLOTS -> n++
            :: break
            od
        };
look:   if
        :: atomic { n > 0 && pub_lap[IX(n - 1)] < LAP(n - 1) -> n-- }; goto look       /* hint too far */
        :: atomic { n == 0 || pub_lap[IX(n - 1)] >= LAP(n - 1) -> skip }
        fi;
#ifndef NO_GATE
        (n < gate + SLOTS);                                                             /* backpressure */
#endif
        seen = pub_lap[IX(n)];
        if
        :: atomic { seen >= LAP(n) -> n++; seen = 0 };                                  /* taken */
           atomic { if :: n < gate -> n = gate :: else fi }; goto look
        :: atomic { seen < LAP(n) -> skip }
        fi;
        atomic {
            if
#ifdef PUBLISH_BLIND
            :: true ->
#else
            :: pub_lap[IX(n)] == seen ->
#endif
                assert(n == published && seen + 1 == LAP(n));       /* no hole; the slot was free for n */
                assert(n < SLOTS || delivered[n - SLOTS] == ALL);   /* loss: its last content was delivered */
                pub_lap[IX(n)] = LAP(n);
                pub_id[IX(n)] = id * RECORDS + i + 1;
                order[n] = pub_id[IX(n)];
                published++;
                i++
#ifndef PUBLISH_BLIND
            :: else
#endif
            fi;
            n = 0; seen = 0
        }
    :: else -> break
    od
}

/* ---- encryptor ---- */

#define LEASABLE_NOW(n) (pub_lap[IX(n)] == LAP(n) && out_lap[IX(n)] < LAP(n) && LEASABLE(n))

proctype Encryptor()
{
    byte n, id;
again:
    if
    :: atomic { LEASABLE_NOW(gate) -> n = gate; LEASE(n) }
#if SLOTS > 1
    :: atomic { LEASABLE_NOW(gate + 1) -> n = gate + 1; LEASE(n) }
#endif
#if SLOTS > 2
    :: atomic { LEASABLE_NOW(gate + 2) -> n = gate + 2; LEASE(n) }
#endif
    :: atomic { committed == TOTAL -> goto end }
    fi;
    if
    :: id = pub_id[IX(n)]                       /* may be of a later lap by now: then the CAS fails */
    :: atomic { n = 0; goto again }             /* killed with a lease */
    fi;
    atomic {
        if
#ifdef COMMIT_STORE
        :: true ->
#else
        :: out_lap[IX(n)] == LAP(n) - 1 ->
#endif
            assert(pub_lap[IX(n)] == LAP(n) && out_lap[IX(n)] < LAP(n));
            assert(id == order[n]);             /* identity */
            out_lap[IX(n)] = LAP(n);
            out_id[IX(n)] = id;
            committed++
#ifndef COMMIT_STORE
        :: else                                 /* somebody was first: the result is dropped */
#endif
        fi;
        n = 0; id = 0;
        goto again
    };
end: skip
}

/* ---- dispatcher ---- */

#define COMMITTED(n) (out_lap[IX(n)] >= LAP(n))
#define CLAIMED(n)   (own_lap[IX(n)] >= LAP(n))
#define IS_THIS(n)   (own_lap[IX(n)] == LAP(n))

#if defined(CLAIM_BLIND)
#define MAY_CLAIM(n) (pub_lap[IX(n)] >= LAP(n) - 1)
#else
#define MAY_CLAIM(n) COMMITTED(n)
#endif

/* First claim of n: all before it are claimed. That holds for ever once it holds, so looking at all of them in one step
 * is as good as a scan. */
#ifdef CLAIM_SKIP
#define PREFIX1 true
#define PREFIX2 true
#else
#define PREFIX1 CLAIMED(gate)
#define PREFIX2 (CLAIMED(gate) && CLAIMED(gate + 1))
#endif
#define FRESH(n) (n < TOTAL && own_lap[IX(n)] == LAP(n) - 1 && MAY_CLAIM(n))

#define RELEASED(n) (IS_THIS(n) && own_progress[IX(n)] != DONE && own_who[IX(n)] == NOBODY)

#if defined(NO_TAKEOVER)
#define TAKEABLE(n) false
#elif defined(TAKE_DEAD)
#define TAKEABLE(n) (IS_THIS(n) && own_progress[IX(n)] != DONE && own_who[IX(n)] == DEAD)
#else
#define TAKEABLE(n) (IS_THIS(n) && own_progress[IX(n)] != DONE && own_who[IX(n)] != NOBODY && own_who[IX(n)] != me)
#endif

#define SEE(n_) n = n_; who = own_who[IX(n)]; k = own_progress[IX(n)]

#ifdef GATE_BLIND
#define GATE_MAY_PASS(n) true
#else
#define GATE_MAY_PASS(n) (own_progress[IX(n)] == DONE)
#endif

/* A dispatcher has one record at a time. Several at a time, delivered one after the other, are the same as several
 * dispatchers here: words of different records never meet. */

/* CAS on the word of n from exactly {lap, who, k}. */
#define WORD_IS(lap_, who_, k_) (own_lap[IX(n)] == (lap_) && own_who[IX(n)] == (who_) && own_progress[IX(n)] == (k_))
#define WORD_SET(who_, k_)                                                                                     \
    assert(own_lap[IX(n)] < LAP(n) || (own_lap[IX(n)] == LAP(n) && own_progress[IX(n)] <= (k_)));              \
    assert((k_) == DONE || (delivered[n] & ((1 << (k_)) - 1)) == (1 << (k_)) - 1);    /* progress */           \
    assert((k_) != DONE || delivered[n] == ALL);                                                               \
    own_lap[IX(n)] = LAP(n); own_who[IX(n)] = (who_); own_progress[IX(n)] = (k_)

#ifdef REUSE_ID
#define DIE skip
#else
#define DIE                                                                                                    \
    i = 0;                                                                                                     \
    do                                                                                                         \
    :: i < SLOTS -> if :: own_who[i] == me && own_progress[i] != DONE -> own_who[i] = DEAD :: else fi; i++     \
    :: else -> break                                                                                           \
    od;                                                                                                        \
    i = 0
#endif
#define FORGET n = 0; who = 0; k = 0; noted = 0; id = 0
#define MAY_DIE if :: d_step { DIE; FORGET } -> goto again :: skip fi

proctype Dispatcher(byte me)
{
    byte n, who, k, noted, id, i;
again:
    if
    /* Help the gate. */
    :: atomic { gate < TOTAL && IS_THIS(gate) && GATE_MAY_PASS(gate) -> n = gate };
        atomic {
            if
#ifdef GATE_STORE
            :: true ->
#else
            :: gate == n ->
#endif
                assert(gate == n && out_lap[IX(n)] == LAP(n) && delivered[n] == ALL);
                gate = n + 1
#ifndef GATE_STORE
            :: else
#endif
            fi;
            FORGET;
            goto again
        }
    /* First claims. */
    :: atomic { FRESH(gate) -> SEE(gate) }; goto first
#if SLOTS > 1
    :: atomic { PREFIX1 && FRESH((gate + 1)) -> SEE(gate + 1) }; goto first
#endif
#if SLOTS > 2
    :: atomic { PREFIX2 && FRESH((gate + 2)) -> SEE(gate + 2) }; goto first
#endif
    /* Released, or taken over. */
    :: atomic { RELEASED(gate) || TAKEABLE(gate) -> SEE(gate) }; goto again_claimed
#if SLOTS > 1
    :: atomic { RELEASED(gate + 1) || TAKEABLE(gate + 1) -> SEE(gate + 1) }; goto again_claimed
#endif
#if SLOTS > 2
    :: atomic { RELEASED(gate + 2) || TAKEABLE(gate + 2) -> SEE(gate + 2) }; goto again_claimed
#endif
    :: atomic { gate == TOTAL -> goto end }
    fi;

first:
    atomic {
        if
        :: WORD_IS(LAP(n) - 1, who, k) ->
            assert(n == claimed && COMMITTED(n));                                   /* order */
            WORD_SET(me, 0);
            claimed++;
            who = 0; k = 0
        :: else -> FORGET; goto again
        fi
    };
    goto mine;

again_claimed:
    atomic {
        if
        :: WORD_IS(LAP(n), who, k) ->
#ifdef TAKE_FORWARD
            if :: who != NOBODY && k + 1 < MESSAGES -> k++ :: else fi;
#endif
            WORD_SET(me, k);
            who = 0;
            noted = k
        :: else -> FORGET; goto again
        fi
    };

mine:
    MAY_DIE;
#ifdef NO_SEQ_CHECK
    id = out_id[IX(n)];
#else
    /* The sealed batch is copied and opened; its seq is authenticated, so a batch of another lap is refused. */
    atomic {
        if
        :: out_lap[IX(n)] == LAP(n) -> id = out_id[IX(n)]
        :: else -> FORGET; goto again
        fi
    };
#endif

    do
    :: k < MESSAGES ->
#ifdef NOTE_FIRST
        atomic {
            if
            :: WORD_IS(LAP(n), me, noted) -> WORD_SET(me, k + 1); noted = k + 1
            :: else -> FORGET; goto again
            fi
        };
        MAY_DIE;
#endif
        /* A socket takes message k. */
        atomic {
            assert(id == order[n]);                                                 /* identity */
            assert((delivered[n] & ((1 << k) - 1)) == (1 << k) - 1);                /* order in the record */
            delivered[n] = delivered[n] | (1 << k);
            k++
        };
        MAY_DIE;
        if
        :: k < MESSAGES ->
            atomic {
                if
#ifdef PROGRESS_STORE
                :: true ->
#else
                :: WORD_IS(LAP(n), me, noted) ->
#endif
                    WORD_SET(me, k);
                    noted = k
#ifndef PROGRESS_STORE
                :: else -> FORGET; goto again                                       /* lost */
#endif
                fi
            };
            MAY_DIE
        :: skip                                 /* noted later, with more */
        fi
    :: atomic {                                 /* no client left */
            if
            :: WORD_IS(LAP(n), me, noted) -> WORD_SET(NOBODY, noted)
            :: else
            fi;
            FORGET;
            goto again
        }
    :: k == MESSAGES -> break
    od;
    atomic {
        if
#ifdef DONE_STORE
        :: true ->
#else
        :: WORD_IS(LAP(n), me, noted) ->
#endif
            WORD_SET(NOBODY, DONE)
#ifndef DONE_STORE
        :: else                                 /* lost */
#endif
        fi;
        FORGET;
        goto again                              /* dying here is covered: nothing is known any more */
    };
end: skip
}

init {
    byte i;
    atomic {
        i = 0; do :: i < PRODUCERS -> run Producer(i); i++ :: else -> break od;
        i = 0; do :: i < ENCRYPTORS -> run Encryptor(); i++ :: else -> break od;
        i = 0; do :: i < DISPATCHERS -> run Dispatcher(i); i++ :: else -> break od;
        i = 0
    };
    (_nr_pr == 1);
    assert(gate == TOTAL && published == TOTAL && committed == TOTAL && claimed == TOTAL);
    i = 0; do :: i < TOTAL -> assert(delivered[i] == ALL); i++ :: else -> break od
}
