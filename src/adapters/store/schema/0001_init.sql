CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    natural_key TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    repo TEXT NOT NULL,
    item_id TEXT NOT NULL,
    round INTEGER NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL,
    blocked_by TEXT NOT NULL DEFAULT '[]',
    stage TEXT NOT NULL CHECK (stage IN ('created', 'analysis', 'architecture', 'development', 'review', 'testing', 'deploy-staging', 'deploy', 'done', 'cancelled')),
    revision INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 1,
    attempt_base INTEGER NOT NULL DEFAULT 1,
    epoch INTEGER NOT NULL DEFAULT 0,
    branch TEXT,
    base_sha TEXT,
    head_sha TEXT,
    head_tree TEXT,
    pr TEXT,
    waiting_for TEXT CHECK (waiting_for IN ('approval', 'confirm_deploy')),
    waiting_since INTEGER,
    wait_no INTEGER NOT NULL DEFAULT 0,
    asked_at INTEGER,
    released TEXT CHECK (released IN ('approval', 'confirm_deploy')),
    blocked_reason TEXT,
    block_no INTEGER NOT NULL DEFAULT 0,
    held_findings TEXT,
    findings TEXT NOT NULL DEFAULT '[]',
    findings_same INTEGER NOT NULL DEFAULT 0,
    rework TEXT CHECK (rework IN ('one_commit')),
    withdrawn TEXT,
    refused TEXT,
    critical TEXT CHECK (critical IN ('update', 'deploy')),
    critical_deploy TEXT,
    stop_requested_at INTEGER,
    stop_reason TEXT,
    stopped_stage TEXT,
    started_at INTEGER,
    in_serial INTEGER NOT NULL DEFAULT 0 CHECK (in_serial IN (0, 1)),
    landed_sha TEXT,
    watch TEXT CHECK (watch IN ('armed', 'healthy', 'degraded', 'inconclusive', 'cancelled')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER,
    CHECK (waiting_for IS NULL OR (waiting_since IS NOT NULL AND released IS NULL)),
    CHECK (asked_at IS NULL OR waiting_since IS NOT NULL),
    CHECK (held_findings IS NULL OR blocked_reason IS NOT NULL),
    CHECK ((finished_at IS NOT NULL) = (stage IN ('done', 'cancelled'))),
    CHECK ((stopped_stage IS NOT NULL) = (stage = 'cancelled')),
    CHECK ((critical_deploy IS NOT NULL) = (critical IS NOT NULL AND critical = 'deploy'))
) STRICT;
CREATE UNIQUE INDEX tasks_one_in_work_per_serial_repo ON tasks (repo) WHERE in_serial = 1;
CREATE INDEX tasks_open ON tasks (id) WHERE stage NOT IN ('done', 'cancelled');
CREATE INDEX tasks_by_key ON tasks (key, id);
CREATE INDEX tasks_by_item ON tasks (project, item_id, id);
CREATE INDEX tasks_watched ON tasks (id) WHERE watch = 'armed';
CREATE INDEX tasks_landed ON tasks (repo, updated_at, id) WHERE landed_sha IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL REFERENCES tasks (id),
    stage TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('agent', 'ci', 'scan', 'staging', 'build', 'deploy', 'deploy-finalizer', 'post-deploy-monitor')),
    agent TEXT CHECK (agent IN ('analyst', 'architect', 'developer', 'reviewer', 'tester', 'deployer')),
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    token TEXT,
    subject TEXT,
    available_at INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL,
    reason TEXT,
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent IN (0, 1)),
    cause TEXT CHECK (cause IN ('lost', 'head_moved', 'push_refused', 'outage', 'taken_back', 'environment', 'base_first', 'cluster')),
    again INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    settled_at INTEGER
) STRICT;
CREATE UNIQUE INDEX jobs_one_live_per_task ON jobs (task_id) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_queue ON jobs (priority, task_id) WHERE status = 'queued';
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_task ON jobs (task_id, id);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL REFERENCES jobs (id),
    task_id INTEGER NOT NULL REFERENCES tasks (id),
    stage TEXT NOT NULL,
    kind TEXT NOT NULL,
    agent TEXT,
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    token TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('starting', 'live', 'exited', 'settled')),
    claimed_at TEXT NOT NULL,
    supervisor TEXT,
    runtime TEXT,
    dead_seen INTEGER NOT NULL DEFAULT 0,
    dead_seen_at TEXT,
    start_sha TEXT,
    exited_at TEXT,
    outcome TEXT,
    finalizer TEXT,
    fence INTEGER NOT NULL DEFAULT 0,
    credential TEXT,
    reserved_micros INTEGER NOT NULL DEFAULT 0,
    cost_micros INTEGER,
    tokens_in INTEGER,
    tokens_out INTEGER,
    model TEXT,
    effort TEXT,
    session TEXT,
    session_total_micros INTEGER,
    prompt_hash TEXT,
    result TEXT CHECK (result IN ('done', 'failed', 'lost', 'again', 'limited', 'blocked', 'cancelled', 'given back', 'not started')),
    result_why TEXT,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    CHECK ((result IS NOT NULL) = (state = 'settled'))
) STRICT;
CREATE INDEX runs_open ON runs (id) WHERE state <> 'settled';
CREATE INDEX runs_dearest ON runs (agent, cost_micros);
CREATE INDEX runs_by_task ON runs (task_id, id);
CREATE INDEX runs_by_job ON runs (job_id, id);
CREATE INDEX runs_by_session ON runs (session, id) WHERE session_total_micros IS NOT NULL;
CREATE INDEX runs_cost_by_day ON runs (started_at, cost_micros);

CREATE TABLE evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id INTEGER NOT NULL REFERENCES tasks (id),
    gate TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    run_id INTEGER REFERENCES runs (id),
    sha TEXT NOT NULL,
    code_tree TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('pass', 'fail', 'missing', 'tool_error')),
    why TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '{}',
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX evidence_by_task ON evidence (task_id, gate, id);

CREATE TABLE journal (
    key TEXT PRIMARY KEY,
    task_id INTEGER REFERENCES tasks (id),
    kind TEXT NOT NULL,
    intent TEXT NOT NULL,
    actor TEXT NOT NULL,
    intended_at INTEGER NOT NULL,
    outcome TEXT,
    ended_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX journal_open ON journal (task_id) WHERE outcome IS NULL;
CREATE INDEX journal_by_task ON journal (task_id, intended_at);
CREATE INDEX journal_open_kind ON journal (kind, intended_at) WHERE outcome IS NULL;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    task_id INTEGER REFERENCES tasks (id),
    sink TEXT NOT NULL CHECK (sink IN ('board_status', 'board_comment', 'forge_comment', 'forge_status', 'card', 'alert', 'chat')),
    payload TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'sent', 'parked', 'collapsed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    available_at INTEGER NOT NULL DEFAULT 0,
    unknown_outcome INTEGER NOT NULL DEFAULT 0 CHECK (unknown_outcome IN (0, 1)),
    owner TEXT,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    sent_at INTEGER
) STRICT;
CREATE INDEX outbox_open ON outbox (task_id, sink, id) WHERE state = 'open';
CREATE INDEX outbox_parked ON outbox (id) WHERE state = 'parked';

CREATE TABLE cards (
    task_id INTEGER NOT NULL REFERENCES tasks (id),
    sink TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    shown TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    PRIMARY KEY (task_id, sink)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    task_id INTEGER,
    event TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_task ON audit (task_id, seq);

CREATE TABLE items (
    project TEXT NOT NULL,
    item_id TEXT NOT NULL,
    key TEXT NOT NULL,
    status_id TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    written_ms INTEGER NOT NULL DEFAULT 0,
    title TEXT NOT NULL,
    body_hash TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 4,
    grp TEXT,
    seen_other_since_end INTEGER NOT NULL DEFAULT 1 CHECK (seen_other_since_end IN (0, 1)),
    PRIMARY KEY (project, item_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX items_by_key ON items (key);

CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    item_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('to_analyse', 'approved', 'confirm_deploy', 'stop')),
    state TEXT NOT NULL CHECK (state IN ('pending', 'consumed', 'dismissed')),
    reason TEXT,
    answers INTEGER,
    created_order TEXT NOT NULL DEFAULT '',
    user TEXT,
    seen_at INTEGER NOT NULL,
    settled_at INTEGER
) STRICT;
CREATE INDEX intents_by_item ON intents (project, item_id, id);
CREATE INDEX intents_pending ON intents (project, item_id) WHERE state = 'pending';

CREATE TABLE leases (
    repo TEXT PRIMARY KEY,
    fence INTEGER NOT NULL,
    task_id INTEGER REFERENCES tasks (id),
    actor TEXT,
    acquired_at TEXT,
    renewed_at TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE freezes (
    repo TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    task_id INTEGER,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deploys (
    id TEXT PRIMARY KEY,
    task_id INTEGER NOT NULL REFERENCES tasks (id),
    repo TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    head TEXT NOT NULL,
    base TEXT NOT NULL,
    tree TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('initiated', 'landed', 'started', 'settled', 'withdrawn')),
    actor TEXT NOT NULL,
    landed_sha TEXT,
    result TEXT CHECK (result IN ('success', 'failed_safe', 'failed_unknown')),
    result_why TEXT,
    result_log TEXT,
    nonce_hash TEXT,
    own_exit TEXT,
    initiated_at TEXT NOT NULL,
    settled_at INTEGER,
    CHECK ((result IS NOT NULL) = (state = 'settled'))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX deploys_one_open_per_repo ON deploys (repo) WHERE state IN ('initiated', 'landed', 'started');
CREATE INDEX deploys_by_repo ON deploys (repo, fence);
CREATE INDEX deploys_by_task ON deploys (task_id);

CREATE TABLE cooldowns (
    credential TEXT PRIMARY KEY,
    until INTEGER NOT NULL,
    streak INTEGER NOT NULL,
    reason TEXT NOT NULL,
    canary INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE asks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('wait', 'sure', 'reason')),
    nonce_hash TEXT UNIQUE,
    task_id INTEGER NOT NULL REFERENCES tasks (id),
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    wait_no INTEGER NOT NULL,
    waiting TEXT NOT NULL CHECK (waiting IN ('approval', 'confirm_deploy')),
    head TEXT,
    user INTEGER,
    chat INTEGER,
    message_id INTEGER,
    html TEXT NOT NULL,
    plain TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'used', 'ended')),
    decided TEXT,
    asked_at INTEGER NOT NULL
) STRICT;
CREATE INDEX asks_open ON asks (task_id) WHERE state = 'open';
CREATE INDEX asks_reasons ON asks (chat, message_id) WHERE kind = 'reason' AND state = 'open';

CREATE TABLE chat_updates (
    bot TEXT NOT NULL,
    update_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (bot, update_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE chat_strangers (
    day INTEGER NOT NULL,
    user INTEGER NOT NULL,
    PRIMARY KEY (day, user)
) STRICT, WITHOUT ROWID;
