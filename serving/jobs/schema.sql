-- The journal's tables. The tenant is a column of every one that holds somebody's data.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL                -- data: the folder that paths lie in
) STRICT;

CREATE TABLE instances (
    tenant TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    sop_class_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    attributes TEXT NOT NULL,          -- JSON: DICOM keyword -> text
    patient TEXT NOT NULL,             -- JSON: the same for what identifies a patient
    kind TEXT NOT NULL,                -- received | result
    received_at REAL NOT NULL,
    PRIMARY KEY (tenant, sop_instance_uid)
) STRICT;
CREATE INDEX instances_by_series ON instances (tenant, study_instance_uid, series_instance_uid);

-- An instance that came again with other bytes: the newest counts, the older stay on disk.
CREATE TABLE replaced_instances (
    tenant TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    path TEXT NOT NULL,
    digest TEXT NOT NULL,
    replaced_at REAL NOT NULL
) STRICT;

CREATE TABLE series (
    tenant TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL,
    state TEXT NOT NULL,               -- RECEIVING | COMPLETE
    reason TEXT NOT NULL,              -- why it is complete
    first_at REAL NOT NULL,
    last_at REAL NOT NULL,
    PRIMARY KEY (tenant, series_instance_uid)
) STRICT;

-- What a job works on: the images of a series as they were when the job was made.
CREATE TABLE inputs (
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL,
    images TEXT NOT NULL,              -- JSON: [[path, digest, SOP Instance UID], ...]
    voxels INTEGER NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    input_digest TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    plan TEXT NOT NULL,
    binding TEXT NOT NULL,
    software_version TEXT NOT NULL,
    device TEXT NOT NULL,
    state TEXT NOT NULL,               -- QUEUED | RUNNING | COMPLETED | REFUSED | FAILED
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    warnings TEXT NOT NULL,            -- JSON: [sentence, ...]
    stages TEXT NOT NULL,              -- JSON: [{stage, shared, seconds, ...}, ...]
    created_at REAL NOT NULL,
    last_image_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL
) STRICT;
CREATE INDEX jobs_by_time ON jobs (tenant, created_at);
CREATE INDEX jobs_by_state ON jobs (state);

CREATE TABLE results (
    tenant TEXT NOT NULL,
    job TEXT NOT NULL,
    output TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    series_instance_uid TEXT NOT NULL,
    measurements TEXT NOT NULL,        -- JSON: [{segment, quantity, value, unit}, ...]
    PRIMARY KEY (job, output)
) STRICT;

CREATE TABLE deliveries (
    tenant TEXT NOT NULL,
    job TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,               -- PENDING | DELIVERED | DEAD
    attempts INTEGER NOT NULL,
    next_at REAL NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (tenant, sop_instance_uid, destination)
) STRICT;
CREATE INDEX deliveries_by_state ON deliveries (state, next_at);
