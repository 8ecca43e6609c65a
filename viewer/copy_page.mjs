// Puts the built page where the Python package has it.
import { copyFileSync } from "node:fs";

const page = new URL("../schemas/store/page.html", import.meta.url);
copyFileSync(new URL("dist/index.html", import.meta.url), page);
