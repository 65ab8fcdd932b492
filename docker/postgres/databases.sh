#!/bin/bash
# Runs once, on an empty volume: a database and a role of its own for Dagster, ledger and MLflow,
# so that none of them can read or change what belongs to another.
set -euo pipefail

make_database() { # name of role and database, name of the variable that holds the password
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$1" --set variable="$2" <<'SQL'
\getenv password :variable
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke connect on database :"name" from public;
SQL
}

make_database dagster FM_DAGSTER_DB_PASSWORD
make_database ledger FM_LEDGER_DB_PASSWORD
make_database mlflow FM_MLFLOW_DB_PASSWORD
