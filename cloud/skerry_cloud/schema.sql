-- The whole data model of the cloud side. Version: SCHEMA_VERSION in database.py.

CREATE TABLE cursor (feed TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE segment (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL) STRICT;
CREATE TABLE tensor (sha256 TEXT PRIMARY KEY, segment INTEGER NOT NULL REFERENCES segment, row INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tensor_by_segment ON tensor (segment);
CREATE TABLE sample (id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL,
  prediction TEXT NOT NULL, model TEXT NOT NULL, bundle TEXT NOT NULL, kept TEXT NOT NULL, time_s REAL NOT NULL,
  segment INTEGER NOT NULL REFERENCES segment, row INTEGER NOT NULL, capture TEXT, UNIQUE (device, boot_id, seq)) STRICT;
CREATE INDEX sample_by_model ON sample (model, kept, id);
CREATE INDEX sample_by_prediction ON sample (prediction);
CREATE INDEX sample_by_segment ON sample (segment);
CREATE TABLE sketch (id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, boot_id TEXT NOT NULL, seq INTEGER NOT NULL,
  model TEXT NOT NULL, bundle TEXT NOT NULL, start_s REAL NOT NULL, end_s REAL NOT NULL, predictions INTEGER NOT NULL,
  segment INTEGER NOT NULL REFERENCES segment, row INTEGER NOT NULL, UNIQUE (device, boot_id, seq)) STRICT;
CREATE INDEX sketch_by_bundle ON sketch (bundle, id);
CREATE INDEX sketch_by_segment ON sketch (segment);

CREATE TABLE verdict (id INTEGER PRIMARY KEY AUTOINCREMENT, monitor TEXT NOT NULL, model TEXT NOT NULL, bundle TEXT NOT NULL,
  time_s REAL NOT NULL, alarm INTEGER NOT NULL, upto INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (monitor, bundle, upto)) STRICT;
CREATE INDEX verdict_by_model ON verdict (model, monitor, id);

CREATE TABLE label_job (id TEXT PRIMARY KEY, model TEXT NOT NULL, state TEXT NOT NULL, created_s REAL NOT NULL, closed_s REAL,
  classes TEXT NOT NULL, settings TEXT NOT NULL) STRICT;
CREATE TABLE label_item (job TEXT NOT NULL REFERENCES label_job, prediction TEXT NOT NULL, batch INTEGER NOT NULL, purpose TEXT NOT NULL,
  wanted INTEGER NOT NULL, label TEXT, confidence REAL, PRIMARY KEY (job, prediction)) STRICT, WITHOUT ROWID;
CREATE INDEX label_item_by_prediction ON label_item (prediction);
CREATE TABLE label_lease (job TEXT NOT NULL, prediction TEXT NOT NULL, worker TEXT NOT NULL, expires_s REAL NOT NULL,
  PRIMARY KEY (job, prediction, worker)) STRICT, WITHOUT ROWID;
CREATE TABLE vote (job TEXT NOT NULL, prediction TEXT NOT NULL, worker TEXT NOT NULL, label TEXT NOT NULL, time_s REAL NOT NULL,
  cost REAL NOT NULL, PRIMARY KEY (job, prediction, worker)) STRICT, WITHOUT ROWID;

CREATE TABLE dataset (sha256 TEXT PRIMARY KEY, model TEXT NOT NULL, parent TEXT REFERENCES dataset, job TEXT REFERENCES label_job,
  created_s REAL NOT NULL, rows INTEGER NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE TABLE dataset_item (dataset TEXT NOT NULL REFERENCES dataset, prediction TEXT NOT NULL, label TEXT NOT NULL, purpose TEXT NOT NULL,
  PRIMARY KEY (dataset, prediction)) STRICT, WITHOUT ROWID;
CREATE TABLE run (id TEXT PRIMARY KEY, model TEXT NOT NULL, dataset TEXT NOT NULL REFERENCES dataset, onnx TEXT NOT NULL,
  skops TEXT NOT NULL, created_s REAL NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE INDEX run_by_onnx ON run (onnx);
CREATE TABLE bundle (id TEXT PRIMARY KEY, model TEXT NOT NULL, version TEXT NOT NULL, release INTEGER NOT NULL, target TEXT NOT NULL,
  source TEXT NOT NULL, manifest TEXT NOT NULL) STRICT;
CREATE TABLE rollout (id TEXT PRIMARY KEY, model TEXT NOT NULL, bundle TEXT NOT NULL, pipeline TEXT NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE pipeline (id TEXT PRIMARY KEY, model TEXT NOT NULL, cause TEXT NOT NULL, state TEXT NOT NULL, step TEXT NOT NULL,
  started_s REAL NOT NULL, ended_s REAL, approved_by TEXT, detail TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX one_pipeline_a_model ON pipeline (model) WHERE ended_s IS NULL;
CREATE TABLE pipeline_step (pipeline TEXT NOT NULL REFERENCES pipeline, step TEXT NOT NULL, started_s REAL NOT NULL, ended_s REAL,
  result TEXT, PRIMARY KEY (pipeline, step)) STRICT;
