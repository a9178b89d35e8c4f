CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE artifact (
    id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    version VARCHAR(64),
    board_type VARCHAR(64) NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    size INTEGER NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(project_id) REFERENCES project (id) ON DELETE CASCADE,
    PRIMARY KEY (id)
);
CREATE TABLE assignment (
    id VARCHAR(64) NOT NULL,
    classroom_id VARCHAR(64) NOT NULL,
    title VARCHAR(160) NOT NULL,
    instructions VARCHAR(20000) NOT NULL,
    project_template_id VARCHAR(64),
    max_points INTEGER NOT NULL,
    pass_points INTEGER,
    required BOOLEAN NOT NULL,
    due_us BIGINT,
    status VARCHAR(16) NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(classroom_id) REFERENCES classroom (id),
    PRIMARY KEY (id)
);
CREATE TABLE board (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    owner_id VARCHAR(64) NOT NULL,
    device_id INTEGER NOT NULL,
    name VARCHAR(80) NOT NULL,
    board_type VARCHAR(64) NOT NULL,
    connection_type VARCHAR(16) NOT NULL,
    firmware_version VARCHAR(64),
    token_prefix VARCHAR(16) NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(owner_id) REFERENCES user_account (id),
    PRIMARY KEY (id)
);
CREATE TABLE certificate (
    id VARCHAR(64) NOT NULL,
    classroom_id VARCHAR(64) NOT NULL,
    recipient_id VARCHAR(64) NOT NULL,
    title VARCHAR(160) NOT NULL,
    recipient_name VARCHAR(80) NOT NULL,
    recipient_username VARCHAR(32) NOT NULL,
    issuer_name VARCHAR(80) NOT NULL,
    classroom_name VARCHAR(120) NOT NULL,
    points FLOAT,
    max_points FLOAT,
    issued_us BIGINT NOT NULL,
    revoked_us BIGINT,
    FOREIGN KEY(classroom_id) REFERENCES classroom (id),
    FOREIGN KEY(recipient_id) REFERENCES user_account (id),
    PRIMARY KEY (id)
);
CREATE TABLE channel (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    device_id INTEGER NOT NULL,
    name VARCHAR(256) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    unit VARCHAR(32),
    label VARCHAR(80),
    created_us BIGINT NOT NULL,
    FOREIGN KEY(device_id) REFERENCES device (id),
    UNIQUE (device_id, name)
);
CREATE TABLE classroom (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    teacher_id VARCHAR(64) NOT NULL,
    name VARCHAR(120) NOT NULL,
    description VARCHAR(5000) NOT NULL,
    join_code VARCHAR(8) NOT NULL,
    archived BOOLEAN NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(teacher_id) REFERENCES user_account (id),
    PRIMARY KEY (id),
    UNIQUE (join_code)
);
CREATE TABLE classroom_member (
    id VARCHAR(64) NOT NULL,
    classroom_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    role VARCHAR(16) NOT NULL,
    joined_us BIGINT NOT NULL,
    FOREIGN KEY(classroom_id) REFERENCES classroom (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (id),
    UNIQUE (classroom_id, user_id)
);
CREATE TABLE collaborator (
    id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64),
    email VARCHAR(254),
    role VARCHAR(16) NOT NULL,
    invited_us BIGINT NOT NULL,
    joined_us BIGINT,
    CONSTRAINT collaborator_email UNIQUE (project_id, email),
    CONSTRAINT collaborator_user UNIQUE (project_id, user_id),
    FOREIGN KEY(project_id) REFERENCES project (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (id)
);
CREATE TABLE command_audit (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    source_id VARCHAR(256) NOT NULL,
    credential_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64),
    command VARCHAR(256) NOT NULL,
    outcome VARCHAR(64) NOT NULL,
    at_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id)
);
CREATE TABLE "credential" (
    id VARCHAR(64) NOT NULL,
    kind INTEGER NOT NULL,
    hash VARCHAR(64) NOT NULL,
    prefix VARCHAR(16) NOT NULL,
    name VARCHAR(200) NOT NULL,
    org_id VARCHAR(64),
    user_id VARCHAR(64),
    scopes VARCHAR(1000) NOT NULL,
    bound_to VARCHAR(256),
    board_ids VARCHAR,
    created_us BIGINT NOT NULL,
    expires_us BIGINT,
    last_used_us BIGINT,
    revoked_us BIGINT,
    read_only BOOLEAN DEFAULT 0 NOT NULL,
    tools VARCHAR,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (id),
    UNIQUE (hash)
);
CREATE TABLE device (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    org_id VARCHAR(64) NOT NULL,
    slug VARCHAR(256) NOT NULL,
    name VARCHAR(256) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    seq BIGINT DEFAULT 0 NOT NULL,
    recording BOOLEAN NOT NULL,
    last_seen_us BIGINT,
    created_us BIGINT NOT NULL,
    deleted_us BIGINT,
    UNIQUE (org_id, slug)
);
CREATE TABLE device_grant (
    id VARCHAR(64) NOT NULL,
    device_code_hash VARCHAR(64) NOT NULL,
    user_code VARCHAR(16) NOT NULL,
    org_id VARCHAR(64),
    user_id VARCHAR(64),
    state VARCHAR(16) NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (device_code_hash),
    UNIQUE (user_code)
);
CREATE TABLE document (
    subject VARCHAR(64) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    revision INTEGER NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    content VARCHAR NOT NULL,
    digest VARCHAR(64) NOT NULL,
    size INTEGER NOT NULL,
    saved_by VARCHAR(64),
    saved_us BIGINT NOT NULL,
    restored_from INTEGER,
    PRIMARY KEY (subject, kind, revision)
);
CREATE TABLE home_board (
    board_id VARCHAR(64) NOT NULL,
    FOREIGN KEY(board_id) REFERENCES board (id) ON DELETE CASCADE,
    PRIMARY KEY (board_id)
);
CREATE TABLE idempotency (
    owner VARCHAR(64) NOT NULL,
    rpc VARCHAR(200) NOT NULL,
    "key" VARCHAR(255) NOT NULL,
    fingerprint BLOB NOT NULL,
    answer BLOB,
    status INTEGER,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (owner, rpc, "key")
);
CREATE TABLE invite (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    email VARCHAR(254) NOT NULL,
    name VARCHAR(200) NOT NULL,
    role VARCHAR(16) NOT NULL,
    owner BOOLEAN NOT NULL,
    inviter_id VARCHAR(64) NOT NULL,
    invitee_id VARCHAR(64),
    created_us BIGINT NOT NULL,
    accepted_us BIGINT,
    FOREIGN KEY(invitee_id) REFERENCES user_account (id),
    FOREIGN KEY(inviter_id) REFERENCES user_account (id),
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id)
);
CREATE TABLE lab_dashboard (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    is_global BOOLEAN NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_effect (
    id VARCHAR(32) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    subject VARCHAR(36) NOT NULL,
    value DOUBLE NOT NULL,
    at_us BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id)
);
CREATE TABLE lab_event (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    channel_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    linked BOOLEAN NOT NULL,
    name VARCHAR(255) NOT NULL,
    min_value DOUBLE NOT NULL,
    max_value DOUBLE NOT NULL,
    unit VARCHAR(255) NOT NULL,
    type VARCHAR(16) NOT NULL,
    user_id VARCHAR(64),
    created_us BIGINT NOT NULL,
    CONSTRAINT lab_event_channel UNIQUE (channel_id),
    CONSTRAINT lab_event_name UNIQUE (org_id, name),
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_log (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64),
    content VARCHAR(500) NOT NULL,
    logging_type VARCHAR(16) NOT NULL,
    status_type VARCHAR(16) NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_package (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    package_name VARCHAR(255) NOT NULL,
    normal_name VARCHAR(255) NOT NULL,
    version VARCHAR(100) NOT NULL,
    file_name VARCHAR(255) NOT NULL,
    file_size BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (file_name),
    UNIQUE (normal_name),
    UNIQUE (public_id)
);
CREATE TABLE lab_package_plugin (
    plugin_id VARCHAR(100) NOT NULL,
    package_id INTEGER NOT NULL,
    FOREIGN KEY(package_id) REFERENCES lab_package (id) ON DELETE CASCADE,
    PRIMARY KEY (plugin_id)
);
CREATE TABLE lab_plugin (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64),
    plugin_id VARCHAR(100) NOT NULL,
    instance_name VARCHAR(255) NOT NULL,
    demo_mode BOOLEAN NOT NULL,
    enabled BOOLEAN NOT NULL,
    config_json VARCHAR,
    created_us BIGINT NOT NULL,
    updated_us BIGINT,
    CONSTRAINT lab_plugin_name UNIQUE (org_id, instance_name),
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_plugin_channel (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    instance_id INTEGER NOT NULL,
    channel_id VARCHAR(100) NOT NULL,
    channel_name VARCHAR(255) NOT NULL,
    direction VARCHAR(16) NOT NULL,
    unit VARCHAR(50) NOT NULL,
    event_id VARCHAR(36),
    created_us BIGINT NOT NULL,
    CONSTRAINT lab_plugin_channel_once UNIQUE (instance_id, channel_id),
    FOREIGN KEY(instance_id) REFERENCES lab_plugin (id) ON DELETE CASCADE,
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_rule (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    name VARCHAR(255) NOT NULL,
    event_id VARCHAR(36) NOT NULL,
    operator VARCHAR(16) NOT NULL,
    threshold DOUBLE NOT NULL,
    threshold_high DOUBLE,
    action_type VARCHAR(16) NOT NULL,
    webhook_event_type VARCHAR(32),
    enabled BOOLEAN NOT NULL,
    cooldown_seconds INTEGER NOT NULL,
    last_triggered_us BIGINT,
    created_us BIGINT NOT NULL,
    CONSTRAINT lab_rule_name UNIQUE (org_id, name),
    FOREIGN KEY(event_id) REFERENCES lab_event (public_id) ON DELETE CASCADE,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_sso_attempt (
    state_hash VARCHAR(64) NOT NULL,
    browser_hash VARCHAR(64) NOT NULL,
    verifier VARCHAR(128) NOT NULL,
    redirect_uri VARCHAR(2048) NOT NULL,
    expires_us BIGINT NOT NULL,
    PRIMARY KEY (state_hash)
);
CREATE TABLE lab_sso_code (
    code_hash VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    expires_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (code_hash)
);
CREATE TABLE lab_update (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64),
    version VARCHAR(50) NOT NULL,
    changelog VARCHAR,
    file_hash VARCHAR(64),
    file_size BIGINT,
    has_file BOOLEAN NOT NULL,
    status VARCHAR(16) NOT NULL,
    error_message VARCHAR(500),
    created_us BIGINT NOT NULL,
    started_us BIGINT,
    completed_us BIGINT,
    CONSTRAINT lab_update_version UNIQUE (org_id, version),
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE "lab_webhook" (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    url VARCHAR(2048) NOT NULL,
    url_hash VARCHAR(64) NOT NULL,
    secret VARCHAR,
    previous_secret VARCHAR,
    previous_until_us BIGINT,
    events VARCHAR NOT NULL,
    enabled BOOLEAN NOT NULL,
    signature_style VARCHAR(16) NOT NULL,
    created_us BIGINT NOT NULL,
    CONSTRAINT lab_webhook_url UNIQUE (org_id, url_hash),
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE lab_widget (
    id INTEGER NOT NULL,
    public_id VARCHAR(36) NOT NULL,
    dashboard_id INTEGER NOT NULL,
    widget_type VARCHAR(32) NOT NULL,
    title VARCHAR(255) NOT NULL,
    event_id VARCHAR(36),
    x INTEGER NOT NULL,
    y INTEGER NOT NULL,
    w INTEGER NOT NULL,
    h INTEGER NOT NULL,
    config_json VARCHAR,
    FOREIGN KEY(dashboard_id) REFERENCES lab_dashboard (id) ON DELETE CASCADE,
    FOREIGN KEY(event_id) REFERENCES lab_event (public_id) ON DELETE SET NULL,
    PRIMARY KEY (id),
    UNIQUE (public_id)
);
CREATE TABLE late_span (
    bucket_us BIGINT NOT NULL,
    channel_id INTEGER NOT NULL,
    start_us BIGINT NOT NULL,
    end_us BIGINT NOT NULL,
    PRIMARY KEY (bucket_us, channel_id)
)
 WITHOUT ROWID;
CREATE TABLE latest (
    channel_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    num DOUBLE,
    text TEXT,
    seq BIGINT NOT NULL,
    updated_by TEXT,
    written_us BIGINT NOT NULL,
    PRIMARY KEY (channel_id)
);
CREATE TABLE listing (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    creator_id VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    title VARCHAR(120) NOT NULL,
    summary VARCHAR(280) NOT NULL,
    description VARCHAR(20000) NOT NULL,
    project_id VARCHAR(64),
    price_cents INTEGER NOT NULL,
    currency VARCHAR(3) NOT NULL,
    tags VARCHAR NOT NULL,
    cover_url VARCHAR(2048),
    license VARCHAR(100) NOT NULL,
    status VARCHAR(16) NOT NULL,
    words VARCHAR NOT NULL,
    stars_1 INTEGER NOT NULL,
    stars_2 INTEGER NOT NULL,
    stars_3 INTEGER NOT NULL,
    stars_4 INTEGER NOT NULL,
    stars_5 INTEGER NOT NULL,
    review_count INTEGER NOT NULL,
    rating_sum INTEGER NOT NULL,
    score INTEGER NOT NULL,
    purchase_count INTEGER NOT NULL,
    published_us BIGINT,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(creator_id) REFERENCES user_account (id),
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(project_id) REFERENCES project (id) ON DELETE SET NULL,
    PRIMARY KEY (id)
);
CREATE TABLE membership (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    role VARCHAR(16) NOT NULL,
    created_us BIGINT NOT NULL, owner BOOLEAN DEFAULT 0 NOT NULL, guest BOOLEAN DEFAULT 0 NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (id),
    UNIQUE (org_id, user_id)
);
CREATE TABLE notification (
    id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    title VARCHAR(160) NOT NULL,
    body VARCHAR(2000) NOT NULL,
    link VARCHAR(500),
    data VARCHAR NOT NULL,
    read_us BIGINT,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (id)
);
CREATE TABLE org (
    id VARCHAR(64) NOT NULL,
    name VARCHAR(200) NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE org_domain (
    domain VARCHAR(253) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (domain),
    UNIQUE (org_id)
);
CREATE TABLE ota_job (
    id VARCHAR(64) NOT NULL,
    board_id VARCHAR(64) NOT NULL,
    artifact_id VARCHAR(64) NOT NULL,
    version VARCHAR(64),
    sha256 VARCHAR(64) NOT NULL,
    size INTEGER NOT NULL,
    status VARCHAR(16) NOT NULL,
    percent FLOAT,
    error VARCHAR(500),
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    FOREIGN KEY(board_id) REFERENCES board (id) ON DELETE CASCADE,
    PRIMARY KEY (id)
);
CREATE TABLE outbox (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    subject VARCHAR(64) NOT NULL,
    payload VARCHAR NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    next_attempt_us BIGINT NOT NULL,
    lease VARCHAR(64),
    last_error VARCHAR(500),
    response_code INTEGER,
    created_us BIGINT NOT NULL,
    delivered_us BIGINT,
    dedupe_key VARCHAR(200),
    CONSTRAINT outbox_once UNIQUE (org_id, kind, dedupe_key),
    PRIMARY KEY (id)
);
CREATE TABLE pairing (
    id VARCHAR(64) NOT NULL,
    code_hash VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    source_id VARCHAR(256) NOT NULL,
    name VARCHAR(200) NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    completed_us BIGINT,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id),
    UNIQUE (code_hash)
);
CREATE TABLE payment_event (
    id VARCHAR(200) NOT NULL,
    purchase_id VARCHAR(64) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    received_us BIGINT NOT NULL,
    FOREIGN KEY(purchase_id) REFERENCES purchase (id),
    PRIMARY KEY (id)
);
CREATE TABLE "plan" (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    owner_id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    name VARCHAR(200) NOT NULL,
    config VARCHAR NOT NULL,
    replies INTEGER NOT NULL,
    shared_us BIGINT,
    archived_us BIGINT,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(owner_id) REFERENCES user_account (id),
    FOREIGN KEY(project_id) REFERENCES plan_project (id),
    PRIMARY KEY (id)
);
CREATE TABLE plan_branch (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    plan_id VARCHAR(64) NOT NULL,
    owner_id VARCHAR(64) NOT NULL,
    parent_id VARCHAR(64),
    name VARCHAR(255) NOT NULL,
    status VARCHAR(16) NOT NULL,
    head VARCHAR(64) NOT NULL,
    undo_head VARCHAR(64) NOT NULL,
    undo_from VARCHAR(64) NOT NULL,
    context_tokens INTEGER NOT NULL,
    convo_tokens INTEGER NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(owner_id) REFERENCES user_account (id),
    FOREIGN KEY(plan_id) REFERENCES "plan" (id),
    PRIMARY KEY (id),
    UNIQUE (plan_id, name)
);
CREATE TABLE plan_chosen (
    project_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    plan_id VARCHAR(64) NOT NULL,
    FOREIGN KEY(project_id) REFERENCES plan_project (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (project_id, user_id)
);
CREATE TABLE plan_custom (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    name VARCHAR(200) NOT NULL,
    body VARCHAR NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id) ON DELETE CASCADE,
    PRIMARY KEY (id),
    UNIQUE (org_id, kind, name)
);
CREATE TABLE plan_map (
    project_id VARCHAR(64) NOT NULL,
    path VARCHAR(4096) NOT NULL,
    content VARCHAR NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(project_id) REFERENCES plan_project (id),
    PRIMARY KEY (project_id, path)
);
CREATE TABLE plan_org_settings (
    org_id VARCHAR(64) NOT NULL,
    model_pack_name VARCHAR(200) NOT NULL,
    model_pack VARCHAR NOT NULL,
    updated_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id) ON DELETE CASCADE,
    PRIMARY KEY (org_id)
);
CREATE TABLE plan_org_user_config (
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    config VARCHAR NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id) ON DELETE CASCADE,
    FOREIGN KEY(user_id) REFERENCES user_account (id) ON DELETE CASCADE,
    PRIMARY KEY (org_id, user_id)
);
CREATE TABLE plan_project (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    name VARCHAR(200) NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id)
);
CREATE TABLE plan_run (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    plan_id VARCHAR(64) NOT NULL,
    branch_id VARCHAR(64) NOT NULL,
    branch VARCHAR(255) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    request VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL,
    status VARCHAR(16) NOT NULL,
    owner VARCHAR(64) NOT NULL,
    lease_us BIGINT NOT NULL,
    kept INTEGER NOT NULL,
    missing_file VARCHAR NOT NULL,
    load_files VARCHAR NOT NULL,
    error VARCHAR NOT NULL,
    usage VARCHAR NOT NULL,
    started_us BIGINT NOT NULL,
    finished_us BIGINT,
    FOREIGN KEY(branch_id) REFERENCES plan_branch (id) ON DELETE CASCADE,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(plan_id) REFERENCES "plan" (id) ON DELETE CASCADE,
    PRIMARY KEY (id)
);
CREATE TABLE plan_run_event (
    run_id VARCHAR(64) NOT NULL,
    number INTEGER NOT NULL,
    message BLOB NOT NULL,
    raw VARCHAR NOT NULL,
    cut INTEGER,
    FOREIGN KEY(run_id) REFERENCES plan_run (id) ON DELETE CASCADE,
    PRIMARY KEY (run_id, number)
);
CREATE TABLE plan_summary (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    plan_id VARCHAR(64) NOT NULL,
    message_id VARCHAR(64) NOT NULL,
    text VARCHAR NOT NULL,
    tokens INTEGER NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(plan_id) REFERENCES "plan" (id) ON DELETE CASCADE,
    PRIMARY KEY (id)
);
CREATE TABLE plan_user_config (
    user_id VARCHAR(64) NOT NULL,
    config VARCHAR NOT NULL,
    FOREIGN KEY(user_id) REFERENCES user_account (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id)
);
CREATE TABLE point (
    channel_id INTEGER NOT NULL,
    at_us BIGINT NOT NULL,
    n INTEGER DEFAULT 0 NOT NULL,
    num DOUBLE,
    text TEXT,
    recording_id INTEGER,
    tagset_id INTEGER, lag_us BIGINT,
    PRIMARY KEY (channel_id, at_us, n)
)
 WITHOUT ROWID;
CREATE TABLE point_quota (
    credential_id VARCHAR(64) NOT NULL,
    points_per_month BIGINT NOT NULL,
    month INTEGER NOT NULL,
    points BIGINT NOT NULL,
    FOREIGN KEY(credential_id) REFERENCES credential (id),
    PRIMARY KEY (credential_id)
);
CREATE TABLE project (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    owner_id VARCHAR(64) NOT NULL,
    name VARCHAR(120) NOT NULL,
    slug VARCHAR(140) NOT NULL,
    description VARCHAR(5000) NOT NULL,
    board_type VARCHAR(64) NOT NULL,
    theme VARCHAR(16) NOT NULL,
    visibility VARCHAR(16) NOT NULL,
    tags VARCHAR NOT NULL,
    cover_url VARCHAR(2048),
    likes INTEGER NOT NULL,
    published_us BIGINT,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    CONSTRAINT project_slug UNIQUE (owner_id, slug),
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(owner_id) REFERENCES user_account (id),
    PRIMARY KEY (id)
);
CREATE TABLE project_board (
    project_id VARCHAR(64) NOT NULL,
    board_id VARCHAR(64) NOT NULL,
    attached_us BIGINT NOT NULL,
    FOREIGN KEY(board_id) REFERENCES board (id),
    FOREIGN KEY(project_id) REFERENCES project (id),
    PRIMARY KEY (project_id, board_id)
);
CREATE TABLE project_like (
    project_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64) NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(project_id) REFERENCES project (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (project_id, user_id)
);
CREATE TABLE proof (
    id VARCHAR(64) NOT NULL,
    hash VARCHAR(64) NOT NULL,
    email VARCHAR(254) NOT NULL,
    user_id VARCHAR(64),
    org_id VARCHAR(64),
    failures INTEGER NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us BIGINT,
    FOREIGN KEY(org_id) REFERENCES org (id),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (id)
);
CREATE TABLE purchase (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    buyer_id VARCHAR(64) NOT NULL,
    creator_id VARCHAR(64) NOT NULL,
    listing_id VARCHAR(64) NOT NULL,
    snapshot VARCHAR NOT NULL,
    price_cents INTEGER NOT NULL,
    currency VARCHAR(3) NOT NULL,
    status VARCHAR(16) NOT NULL,
    provider VARCHAR(32) NOT NULL,
    reference VARCHAR(200),
    checkout_url VARCHAR(2048),
    referral_code VARCHAR(8),
    cloned_project_id VARCHAR(64),
    created_us BIGINT NOT NULL,
    completed_us BIGINT,
    refunded_us BIGINT,
    FOREIGN KEY(buyer_id) REFERENCES user_account (id),
    FOREIGN KEY(cloned_project_id) REFERENCES project (id) ON DELETE SET NULL,
    FOREIGN KEY(creator_id) REFERENCES user_account (id),
    FOREIGN KEY(listing_id) REFERENCES listing (id),
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (id)
);
CREATE TABLE recording (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    public_id VARCHAR(36) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    external_id VARCHAR(256) NOT NULL,
    name VARCHAR(256) NOT NULL,
    device_id INTEGER,
    kind VARCHAR(16) NOT NULL,
    status VARCHAR(16) NOT NULL,
    started_us BIGINT NOT NULL,
    ended_us BIGINT,
    attributes TEXT NOT NULL,
    UNIQUE (org_id, external_id),
    UNIQUE (public_id)
);
CREATE TABLE recording_span (
    recording_id INTEGER NOT NULL,
    channel_id INTEGER NOT NULL,
    start_us BIGINT NOT NULL,
    end_us BIGINT NOT NULL,
    PRIMARY KEY (recording_id, channel_id)
)
 WITHOUT ROWID;
CREATE TABLE referral (
    user_id VARCHAR(64) NOT NULL,
    code VARCHAR(8) NOT NULL,
    created_us BIGINT NOT NULL,
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (user_id),
    UNIQUE (code)
);
CREATE TABLE referral_use (
    user_id VARCHAR(64) NOT NULL,
    code VARCHAR(8) NOT NULL,
    used_us BIGINT NOT NULL,
    FOREIGN KEY(code) REFERENCES referral (code),
    FOREIGN KEY(user_id) REFERENCES user_account (id),
    PRIMARY KEY (user_id)
);
CREATE TABLE review (
    id VARCHAR(64) NOT NULL,
    listing_id VARCHAR(64) NOT NULL,
    author_id VARCHAR(64) NOT NULL,
    rating INTEGER NOT NULL,
    title VARCHAR(120) NOT NULL,
    body VARCHAR(4000) NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    CONSTRAINT review_once UNIQUE (listing_id, author_id),
    FOREIGN KEY(author_id) REFERENCES user_account (id),
    FOREIGN KEY(listing_id) REFERENCES listing (id),
    PRIMARY KEY (id)
);
CREATE TABLE rollup (
    channel_id INTEGER NOT NULL,
    width_us BIGINT NOT NULL,
    bucket_us BIGINT NOT NULL,
    low DOUBLE NOT NULL,
    high DOUBLE NOT NULL,
    PRIMARY KEY (channel_id, width_us, bucket_us)
)
 WITHOUT ROWID;
CREATE TABLE source (
    device_id INTEGER NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    source_type VARCHAR(64) NOT NULL,
    device_type VARCHAR(64),
    description VARCHAR(2000),
    metadata TEXT,
    config TEXT,
    FOREIGN KEY(org_id) REFERENCES org (id),
    PRIMARY KEY (device_id)
);
CREATE TABLE submission (
    id VARCHAR(64) NOT NULL,
    assignment_id VARCHAR(64) NOT NULL,
    student_id VARCHAR(64) NOT NULL,
    project_id VARCHAR(64),
    content VARCHAR(50000) NOT NULL,
    url VARCHAR(2048),
    attempt INTEGER NOT NULL,
    late BOOLEAN NOT NULL,
    status VARCHAR(16) NOT NULL,
    points FLOAT,
    feedback VARCHAR(20000),
    graded_us BIGINT,
    submitted_us BIGINT NOT NULL,
    FOREIGN KEY(assignment_id) REFERENCES assignment (id),
    FOREIGN KEY(student_id) REFERENCES user_account (id),
    PRIMARY KEY (id),
    UNIQUE (assignment_id, student_id, attempt)
);
CREATE TABLE tagset (
    id INTEGER NOT NULL,
    hash VARCHAR(64) NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (hash)
);
CREATE TABLE tool_call (
    id VARCHAR(64) NOT NULL,
    org_id VARCHAR(64) NOT NULL,
    user_id VARCHAR(64),
    credential_id VARCHAR(64) NOT NULL,
    tool VARCHAR(128) NOT NULL,
    outcome VARCHAR(32) NOT NULL,
    duration_us BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE user_account (
    id VARCHAR(64) NOT NULL,
    email VARCHAR(254) NOT NULL,
    username VARCHAR(64) NOT NULL,
    display_name VARCHAR(80) NOT NULL,
    bio VARCHAR(500) NOT NULL,
    avatar_url VARCHAR(2048),
    website_url VARCHAR(2048),
    role VARCHAR(16) NOT NULL,
    email_verified BOOLEAN NOT NULL,
    password_hash VARCHAR(200) NOT NULL,
    created_us BIGINT NOT NULL, sso_provider VARCHAR(100), sso_subject VARCHAR(255), deleted_us BIGINT,
    PRIMARY KEY (id),
    UNIQUE (email),
    UNIQUE (username)
);
CREATE INDEX artifact_listed ON artifact (project_id, created_us, id);
CREATE UNIQUE INDEX certificate_valid ON certificate (classroom_id, recipient_id) WHERE revoked_us IS NULL;
CREATE INDEX ix_artifact_sha256 ON artifact (sha256);
CREATE INDEX ix_assignment_classroom_id ON assignment (classroom_id);
CREATE INDEX ix_assignment_project_template_id ON assignment (project_template_id);
CREATE INDEX ix_board_org_id ON board (org_id);
CREATE INDEX ix_board_owner_id ON board (owner_id);
CREATE INDEX ix_certificate_recipient_id ON certificate (recipient_id);
CREATE INDEX ix_classroom_member_user_id ON classroom_member (user_id);
CREATE INDEX ix_classroom_org_id ON classroom (org_id);
CREATE INDEX ix_collaborator_email ON collaborator (email);
CREATE INDEX ix_collaborator_user_id ON collaborator (user_id);
CREATE INDEX ix_command_audit_org_id ON command_audit (org_id);
CREATE INDEX ix_credential_bound_to ON credential (bound_to);
CREATE INDEX ix_credential_org_id ON credential (org_id);
CREATE INDEX ix_credential_revoked_us ON credential (revoked_us);
CREATE INDEX ix_credential_user_id ON credential (user_id);
CREATE INDEX ix_document_org_id ON document (org_id);
CREATE INDEX ix_idempotency_created_us ON idempotency (created_us);
CREATE INDEX ix_invite_email ON invite (email, org_id);
CREATE INDEX ix_invite_org ON invite (org_id, created_us);
CREATE INDEX ix_lab_dashboard_org_id ON lab_dashboard (org_id);
CREATE INDEX ix_lab_dashboard_user_id ON lab_dashboard (user_id);
CREATE INDEX ix_lab_effect_created_us ON lab_effect (created_us);
CREATE INDEX ix_lab_event_user_id ON lab_event (user_id);
CREATE INDEX ix_lab_log_org_id ON lab_log (org_id);
CREATE INDEX ix_lab_log_user_id ON lab_log (user_id);
CREATE INDEX ix_lab_package_plugin_package_id ON lab_package_plugin (package_id);
CREATE INDEX ix_lab_plugin_channel_event_id ON lab_plugin_channel (event_id);
CREATE INDEX ix_lab_plugin_user_id ON lab_plugin (user_id);
CREATE INDEX ix_lab_rule_event_id ON lab_rule (event_id);
CREATE INDEX ix_lab_rule_user_id ON lab_rule (user_id);
CREATE INDEX ix_lab_sso_attempt_expires_us ON lab_sso_attempt (expires_us);
CREATE INDEX ix_lab_sso_code_expires_us ON lab_sso_code (expires_us);
CREATE INDEX ix_lab_sso_code_user_id ON lab_sso_code (user_id);
CREATE INDEX ix_lab_update_user_id ON lab_update (user_id);
CREATE INDEX ix_lab_webhook_user_id ON lab_webhook (user_id);
CREATE INDEX ix_lab_widget_dashboard_id ON lab_widget (dashboard_id);
CREATE INDEX ix_lab_widget_event_id ON lab_widget (event_id);
CREATE INDEX ix_listing_project_id ON listing (project_id);
CREATE INDEX ix_membership_user_id ON membership (user_id);
CREATE INDEX ix_ota_job_artifact_id ON ota_job (artifact_id);
CREATE INDEX ix_pairing_org_id ON pairing (org_id);
CREATE INDEX ix_payment_event_purchase_id ON payment_event (purchase_id);
CREATE INDEX ix_plan_org_id ON "plan" (org_id);
CREATE INDEX ix_plan_owner ON "plan" (owner_id, project_id, updated_us);
CREATE INDEX ix_plan_project_id ON "plan" (project_id);
CREATE INDEX ix_plan_project_org_id ON plan_project (org_id);
CREATE INDEX ix_plan_run_branch ON plan_run (branch_id, started_us);
CREATE INDEX ix_plan_run_plan ON plan_run (plan_id);
CREATE INDEX ix_plan_summary_message ON plan_summary (plan_id, message_id);
CREATE INDEX ix_project_board_board_id ON project_board (board_id);
CREATE INDEX ix_project_like_user_id ON project_like (user_id);
CREATE INDEX ix_proof_email ON proof (email, expires_us);
CREATE INDEX ix_proof_expires ON proof (expires_us);
CREATE INDEX ix_proof_hash ON proof (hash);
CREATE INDEX ix_purchase_cloned_project_id ON purchase (cloned_project_id);
CREATE INDEX ix_recording_device_id ON recording (device_id);
CREATE UNIQUE INDEX ix_recording_experiment_name ON recording (org_id, name) WHERE kind = 'experiment';
CREATE INDEX ix_recording_span_channel ON recording_span (channel_id);
CREATE INDEX ix_recording_started ON recording (org_id, started_us);
CREATE INDEX ix_referral_use_code ON referral_use (code);
CREATE INDEX ix_review_author_id ON review (author_id);
CREATE INDEX ix_source_org_id ON source (org_id);
CREATE INDEX ix_submission_project_id ON submission (project_id);
CREATE INDEX ix_submission_student_id ON submission (student_id);
CREATE INDEX ix_tool_call_at ON tool_call (at_us);
CREATE INDEX ix_tool_call_user ON tool_call (user_id, at_us, id);
CREATE UNIQUE INDEX ix_user_account_sso ON user_account (sso_provider, sso_subject);
CREATE INDEX listing_of_creator ON listing (creator_id, created_us, id);
CREATE INDEX listing_popular ON listing (status, purchase_count, published_us, id);
CREATE INDEX listing_rated ON listing (status, score, review_count, id);
CREATE INDEX listing_recent ON listing (status, published_us, id);
CREATE INDEX notification_listed ON notification (user_id, created_us, id);
CREATE INDEX notification_unread ON notification (user_id) WHERE read_us IS NULL;
CREATE INDEX ota_job_listed ON ota_job (board_id, created_us, id);
CREATE UNIQUE INDEX ota_job_live ON ota_job (board_id) WHERE status IN ('queued', 'offered', 'downloading');
CREATE INDEX outbox_created ON outbox (created_us);
CREATE INDEX outbox_due ON outbox (next_attempt_us) WHERE state IN ('pending', 'leased');
CREATE INDEX outbox_listed ON outbox (org_id, subject, created_us);
CREATE INDEX project_changed ON project (owner_id, updated_us);
CREATE INDEX project_feed ON project (visibility, published_us);
CREATE INDEX purchase_of_buyer ON purchase (buyer_id, created_us, id);
CREATE INDEX purchase_of_creator ON purchase (creator_id, created_us, id);
CREATE UNIQUE INDEX purchase_once ON purchase (listing_id, buyer_id) WHERE status IN ('pending', 'completed');
CREATE INDEX review_rated ON review (listing_id, rating, created_us, id);
CREATE INDEX review_recent ON review (listing_id, created_us, id);
CREATE UNIQUE INDEX uq_plan_run_open ON plan_run (branch_id) WHERE finished_us IS NULL;
INSERT INTO alembic_version (version_num) VALUES ('0026');
