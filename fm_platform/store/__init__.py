"""Versioned tables and content-addressed model files.

* `fm_platform.store.tables`: `TableStore`, `TableRef`, `Commit`
* `fm_platform.store.models`: `ModelStore`, `ModelRef`
* `fm_platform.store.columns`: `ColumnStore`
* `fm_platform.store.content`: `content_hash`, `ContentHasher`
* `fm_platform.store.fsck`: `check_tables`, `check_models`, `repair`
"""
