/*
 * ring: publish, lease, commit, and the log as the gate, as in common/shm/cmq_layout.h. Spin model.
 *
 * Happy path:
 *   - a producer writes its record, then publishes it with one CAS on pub[n];
 *   - an encryptor leases n, reads it, and commits the result with one CAS on out[n]; the first one wins;
 *   - the log writer, who holds the lock, appends what is committed to the file, then moves the cursor `stored`;
 *   - producers may publish n only while n < stored + SLOTS; readers read the file below `stored`.
 *
 * What can go wrong, at every step and any number of times:
 *   - any process dies and starts again as a new incarnation. A death of a producer or an encryptor leaves nothing but
 *     what its CAS did; one of the log writer leaves a free lock, half a record, whole records that `stored` does not
 *     tell of, in any combination. A stopped log writer is killed, which is the same;
 *   - an encryptor steals any uncommitted record at ANY time, so nothing here depends on knowing who is dead, or on time;
 *   - a process stops for any time and goes on with what it knew (every interleaving is explored);
 *   - the tail hint is any number.
 *
 * Checked:
 *   loss      a slot is used again only when its last content is in the file; at the end the file has every record
 *   once      the file has every record once, without holes, also over take-overs
 *   order     records get their number in CAS order without holes, and stand in the file in that order
 *   cursor    `stored` never rises above what the file has whole; no reader finds less
 *   identity  what is committed, written and read as record n is what was published as n
 *   end       no deadlock: all processes end, and then all records are stored
 *
 * The lease word is left out: as stealing is allowed at any time, it stops nobody (mutant NO_STEAL brings it in).
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
#ifndef WRITERS
#define WRITERS 2           /* that compete for the log lock */
#endif
#ifndef READERS
#define READERS 1
#endif

#define TOTAL  (PRODUCERS * RECORDS)
#define LAP(n) ((n) / SLOTS + 1)
#define IX(n)  ((n) % SLOTS)
#define FREE   255

byte pub_lap[SLOTS], pub_id[SLOTS];
byte out_lap[SLOTS], out_id[SLOTS];
byte stored;
byte lock = FREE;           /* no one else is told: it is the kernel's */
byte file[TOTAL], file_end;
bool torn;                  /* half a record behind file_end */

/* Ghosts: no process looks at them. */
byte order[TOTAL];          /* id of record n */
byte published, committed;

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
            n = stored;
            do
            :: n < stored + SLOTS -> n++
            :: break
            od
        };
look:   if
        :: atomic { n > 0 && pub_lap[IX(n - 1)] < LAP(n - 1) -> n-- }; goto look       /* hint too far */
        :: atomic { n == 0 || pub_lap[IX(n - 1)] >= LAP(n - 1) -> skip }
        fi;
#ifndef NO_GATE
        (n < stored + SLOTS);                                                             /* backpressure */
#endif
        seen = pub_lap[IX(n)];
        if
        :: atomic { seen >= LAP(n) -> n++; seen = 0 };                                  /* taken */
           atomic { if :: n < stored -> n = stored :: else fi }; goto look
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
                assert(n < SLOTS || n - SLOTS < file_end);          /* loss: its last content is in the log */
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
    :: atomic { LEASABLE_NOW(stored) -> n = stored; LEASE(n) }
#if SLOTS > 1
    :: atomic { LEASABLE_NOW(stored + 1) -> n = stored + 1; LEASE(n) }
#endif
#if SLOTS > 2
    :: atomic { LEASABLE_NOW(stored + 2) -> n = stored + 2; LEASE(n) }
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

/* ---- the log: its writer, and a reader ---- */

#ifdef LOCK_STAYS
#define UNLOCK skip                             /* a lock that outlives its holder */
#else
#define UNLOCK lock = FREE
#endif
#define MAY_DIE if :: d_step { UNLOCK; next = 0; id = 0 } -> goto again :: skip fi

#ifdef APPEND_BLIND
#define READABLE(n) (pub_lap[IX(n)] >= LAP(n))
#else
#define READABLE(n) (out_lap[IX(n)] == LAP(n))
#endif

proctype LogWriter(byte me)
{
    byte next, id;
again:
    if
#ifdef LOCK_BLIND
    :: lock = me
#else
    :: atomic { lock == FREE -> lock = me }
#endif
    :: atomic { stored == TOTAL -> goto end }
    fi;
    MAY_DIE;
    /* The file is the truth: a torn tail is cut, the next record is the one behind its end. */
    atomic {
#ifndef NO_CUT
        torn = false;
#endif
#ifdef TAKE_CURSOR
        next = stored
#else
        next = file_end
#endif
    };
    MAY_DIE;
    do
    :: atomic {                                 /* the cursor: over everything in the file, in one step */
            stored < next ->
            assert(next <= file_end);
            stored = next
        };
        MAY_DIE
    :: atomic { next < TOTAL && READABLE(next) -> id = out_id[IX(next)] };
#ifdef CURSOR_FIRST
        atomic { if :: stored < next + 1 -> stored = next + 1 :: else fi };
#endif
        MAY_DIE;
        atomic { assert(!torn); torn = true };  /* half of the record is in the file */
        MAY_DIE;
        atomic {
            assert(next == file_end);           /* exactly once, without a hole */
            assert(id == order[next]);          /* identity */
            file[file_end] = id;
            file_end++;
            torn = false;
            next++;
            id = 0
        };
        MAY_DIE
    :: atomic { stored == TOTAL -> next = 0; UNLOCK; goto end }
    od;
end: skip
}

proctype Reader()
{
    byte n;
    do
    :: n < TOTAL ->
        (n < stored);
        atomic {
            assert(n < file_end && file[n] == order[n]);
            n++
        }
    :: else -> break
    od
}

init {
    byte i;
    atomic {
        i = 0; do :: i < PRODUCERS -> run Producer(i); i++ :: else -> break od;
        i = 0; do :: i < ENCRYPTORS -> run Encryptor(); i++ :: else -> break od;
        i = 0; do :: i < WRITERS -> run LogWriter(i); i++ :: else -> break od;
        i = 0; do :: i < READERS -> run Reader(); i++ :: else -> break od;
        i = 0
    };
    (_nr_pr == 1);
    assert(stored == TOTAL && published == TOTAL && committed == TOTAL && file_end == TOTAL && !torn);
    i = 0; do :: i < TOTAL -> assert(file[i] == order[i]); i++ :: else -> break od
}
