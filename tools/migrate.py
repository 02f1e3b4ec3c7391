"""Write the next migration from the tables in the code: python -m tools.migrate "what it does" """

import sys
import tempfile
from pathlib import Path

from stackling.base.db import Database
from stackling.boot import assembly, schema


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    assembly.load_tables()
    with tempfile.TemporaryDirectory() as home:
        database = Database(f"sqlite:///{Path(home) / 'state.db'}", durable=False)
        known = sorted((Path(schema.migrations.__file__).parent / "versions").glob("[0-9]*.py"))
        if known:
            schema.upgrade(database)
        schema.make(database, f"{len(known) + 1:04}", sys.argv[1])
        database.close()


if __name__ == "__main__":
    main()
