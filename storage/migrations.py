"""The schema, as the list of steps that built it. Append a step; leave the old ones as they are."""

from __future__ import annotations

import duckdb

from storage.errors import AppError

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE people (
        name       VARCHAR PRIMARY KEY,
        role       VARCHAR NOT NULL,
        created_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE prompts (
        id         VARCHAR PRIMARY KEY,
        text_hash  VARCHAR NOT NULL UNIQUE,
        messages   STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
        held_out   BOOLEAN NOT NULL,
        source     VARCHAR NOT NULL,
        licence    VARCHAR NOT NULL,
        tags       VARCHAR[] NOT NULL,
        created_at TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE model_versions (
        id             VARCHAR PRIMARY KEY,
        base_path      VARCHAR NOT NULL,
        adapter_path   VARCHAR,
        parent_id      VARCHAR,
        run_id         VARCHAR UNIQUE,
        template       VARCHAR NOT NULL,
        fingerprint    VARCHAR NOT NULL,
        context_length INTEGER NOT NULL,
        kind           VARCHAR NOT NULL,
        served         BOOLEAN NOT NULL,
        note           VARCHAR NOT NULL,
        created_at     TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE projects (
        id                   VARCHAR PRIMARY KEY,
        name                 VARCHAR NOT NULL,
        purpose              VARCHAR NOT NULL,
        feedback_type        VARCHAR NOT NULL,
        instruction          VARCHAR NOT NULL,
        version_ids          VARCHAR[] NOT NULL,
        sources              VARCHAR[] NOT NULL,
        responses_per_prompt INTEGER NOT NULL,
        temperature          DOUBLE NOT NULL,
        top_p                DOUBLE NOT NULL,
        max_tokens           INTEGER NOT NULL,
        created_at           TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE guidelines (
        project_id VARCHAR NOT NULL,
        version    INTEGER NOT NULL,
        text       VARCHAR NOT NULL,
        created_at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (project_id, version)
    );
    CREATE TABLE responses (
        id                VARCHAR PRIMARY KEY,
        prompt_id         VARCHAR NOT NULL,
        text              VARCHAR NOT NULL,
        version_id        VARCHAR,
        author            VARCHAR NOT NULL,
        temperature       DOUBLE,
        top_p             DOUBLE,
        max_tokens        INTEGER,
        seed              BIGINT,
        prompt_tokens     INTEGER,
        completion_tokens INTEGER,
        latency_seconds   DOUBLE,
        finish_reason     VARCHAR,
        engine            VARCHAR,
        project_id        VARCHAR,
        created_at        TIMESTAMPTZ NOT NULL
    );
    CREATE INDEX responses_by_prompt ON responses (prompt_id);
    CREATE TABLE assignments (
        id              VARCHAR PRIMARY KEY,
        project_id      VARCHAR NOT NULL,
        prompt_id       VARCHAR NOT NULL,
        labeler         VARCHAR NOT NULL,
        displayed_order VARCHAR[] NOT NULL,
        leased_until    TIMESTAMPTZ NOT NULL,
        state           VARCHAR NOT NULL,
        skip_reason     VARCHAR,
        created_at      TIMESTAMPTZ NOT NULL
    );
    CREATE INDEX assignments_by_project ON assignments (project_id);
    CREATE TABLE judgments (
        id                VARCHAR PRIMARY KEY,
        prompt_id         VARCHAR NOT NULL,
        project_id        VARCHAR,
        assignment_id     VARCHAR,
        labeler           VARCHAR NOT NULL,
        feedback_type     VARCHAR NOT NULL,
        displayed_order   VARCHAR[] NOT NULL,
        guideline_version INTEGER,
        focused_seconds   DOUBLE,
        note              VARCHAR,
        flags             VARCHAR[] NOT NULL,
        supersedes        VARCHAR,
        judged_at         TIMESTAMPTZ NOT NULL
    );
    CREATE INDEX judgments_by_project ON judgments (project_id);
    CREATE TABLE verdicts (
        judgment_id VARCHAR NOT NULL,
        position    INTEGER NOT NULL,
        kind        VARCHAR NOT NULL,
        response_id VARCHAR,
        desirable   BOOLEAN,
        tiers       VARCHAR[][],
        strength    INTEGER,
        text        VARCHAR,
        PRIMARY KEY (judgment_id, position)
    );
    CREATE TABLE snapshots (
        id           VARCHAR PRIMARY KEY,
        name         VARCHAR NOT NULL,
        dataset_type VARCHAR NOT NULL,
        rows         INTEGER NOT NULL,
        fingerprint  VARCHAR NOT NULL,
        path         VARCHAR NOT NULL,
        policy       VARCHAR NOT NULL,
        counts       VARCHAR NOT NULL,
        judgment_ids VARCHAR[] NOT NULL,
        created_at   TIMESTAMPTZ NOT NULL
    );
    CREATE TABLE runs (
        id          VARCHAR PRIMARY KEY,
        method      VARCHAR NOT NULL,
        settings    VARCHAR NOT NULL,
        snapshot_id VARCHAR NOT NULL,
        parent_id   VARCHAR NOT NULL,
        directory   VARCHAR NOT NULL,
        state       VARCHAR NOT NULL,
        message     VARCHAR NOT NULL,
        version_id  VARCHAR,
        started_by  VARCHAR NOT NULL,
        created_at  TIMESTAMPTZ NOT NULL,
        ended_at    TIMESTAMPTZ
    );
    """,
    """
    CREATE TABLE documents (
        id         VARCHAR PRIMARY KEY,
        text_hash  VARCHAR NOT NULL UNIQUE,
        text       VARCHAR NOT NULL,
        held_out   BOOLEAN NOT NULL,
        source     VARCHAR NOT NULL,
        licence    VARCHAR NOT NULL,
        created_at TIMESTAMPTZ NOT NULL
    );
    ALTER TABLE snapshots ADD COLUMN source_ids VARCHAR[] DEFAULT [];
    ALTER TABLE runs ADD COLUMN launch VARCHAR DEFAULT '{}';
    ALTER TABLE runs ADD COLUMN repeats VARCHAR;
    """,
    """
    ALTER TABLE projects ADD COLUMN overlap INTEGER DEFAULT 1;
    ALTER TABLE projects ADD COLUMN gold_share DOUBLE DEFAULT 0.0;
    ALTER TABLE projects ADD COLUMN repeat_share DOUBLE DEFAULT 0.0;
    ALTER TABLE projects ADD COLUMN calibration BOOLEAN DEFAULT false;
    ALTER TABLE projects ADD COLUMN criteria VARCHAR[] DEFAULT [];
    ALTER TABLE projects ADD COLUMN reasons VARCHAR[] DEFAULT [];
    ALTER TABLE projects ADD COLUMN pair_from_edit BOOLEAN DEFAULT true;
    ALTER TABLE judgments ADD COLUMN reasons VARCHAR[] DEFAULT [];
    ALTER TABLE judgments ADD COLUMN scores STRUCT(response_id VARCHAR, criterion VARCHAR, value INTEGER)[] DEFAULT [];
    ALTER TABLE verdicts ADD COLUMN preferred BOOLEAN;
    """,
    """
    CREATE TABLE versions_made_with (
        version_id VARCHAR PRIMARY KEY,
        tokenizer  VARCHAR NOT NULL,
        template   VARCHAR NOT NULL
    );
    """,
    """
    CREATE TABLE device_leases (
        device    VARCHAR PRIMARY KEY,
        holder    VARCHAR NOT NULL,
        wanted_by VARCHAR NOT NULL,
        since     TIMESTAMPTZ NOT NULL,
        free_at   TIMESTAMPTZ
    );
    """,
    """
    ALTER TABLE versions_made_with ADD COLUMN base VARCHAR DEFAULT '';
    """,
    """
    ALTER TABLE prompts ADD COLUMN confidential BOOLEAN DEFAULT false;
    ALTER TABLE responses ADD COLUMN system VARCHAR DEFAULT '';
    ALTER TABLE responses ADD COLUMN sampling_seed BIGINT DEFAULT 0;
    ALTER TABLE projects ADD COLUMN seed BIGINT DEFAULT 0;
    ALTER TABLE projects ADD COLUMN system VARCHAR DEFAULT '';
    ALTER TABLE projects ADD COLUMN samplings STRUCT(
        version_id VARCHAR, temperature DOUBLE, top_p DOUBLE, max_tokens INTEGER, seed BIGINT, system VARCHAR
    )[] DEFAULT [];
    """,
)


def apply(connection: duckdb.DuckDBPyConnection) -> None:
    """Takes the steps that this file has not seen, each in a transaction. Raises AppError for a newer file."""
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (steps INTEGER NOT NULL)")
    row = connection.execute("SELECT coalesce(max(steps), 0) FROM schema_version").fetchone()
    taken = int(row[0]) if row else 0
    if taken > len(STEPS):
        raise AppError(
            f"This database was written by a newer Plumbline (schema step {taken}; this one knows {len(STEPS)}). "
            "Update Plumbline, or choose another folder with PLUMBLINE_HOME."
        )
    for number, step in enumerate(STEPS[taken:], start=taken + 1):
        connection.begin()
        connection.execute(step)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES ($number)", {"number": number})
        connection.commit()
