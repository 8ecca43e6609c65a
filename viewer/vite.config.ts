import { readFileSync, readdirSync } from "node:fs";
import { defineConfig } from "vite";
import type { Plugin } from "vite";

/** Folders of the packages whose code is in the page. */
const packages = new Set<string>();

function notePackages(): Plugin {
  return {
    name: "note-packages",
    transform(_, id) {
      const folder = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id)?.[0];
      if (folder !== undefined) packages.add(folder.replace(/^\0/, ""));
    },
  };
}

/** The terms of every package, which ask to be given along. */
function licences(): string {
  const terms = [...packages].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    if (file === undefined) throw new Error(`${folder} has no file of its licence`);
    return `${name} ${version}, ${license}\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}`;
  });
  return `<!--\n${terms.join("\n\n----\n\n").replaceAll("-->", "->")}\n-->\n`;
}

/** Puts scripts and styles into the page, so that it is one file with no other request. */
function oneFile(): Plugin {
  return {
    name: "one-file",
    enforce: "post",
    generateBundle(_, bundle) {
      const page = Object.values(bundle).find((file) => file.fileName.endsWith(".html"));
      if (page?.type !== "asset") throw new Error("there is no page in the bundle");
      let html = String(page.source);
      for (const file of Object.values(bundle)) {
        if (file === page) continue;
        const name = file.fileName.replaceAll(".", "\\.");
        if (file.type === "chunk") {
          const code = file.code.replaceAll("</script", "<\\/script");
          html = html.replace(new RegExp(`<script[^>]*src="[^"]*${name}"[^>]*></script>`), "");
          html = html.replace("</body>", () => `<script type="module">${code}</script>\n  </body>`);
        } else {
          const styles = `<style>${file.source}</style>`;
          html = html.replace(new RegExp(`<link[^>]*href="[^"]*${name}"[^>]*>`), () => styles);
        }
        delete bundle[file.fileName];
      }
      page.source = html.replace("<html", () => `${licences()}<html`);
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [notePackages(), oneFile()],
  resolve: {
    // Fields are stored with zstd or without a compressor: docs/store.md.
    alias: [
      { find: /^numcodecs\/(blosc|lz4)$/, replacement: "/src/no_codec.ts" },
      { find: "numcodecs/zstd", replacement: "/src/zstd_codec.ts" },
    ],
  },
  worker: {
    format: "es",
    plugins: () => [notePackages()],
    rolldownOptions: { output: { codeSplitting: false } },
  },
  build: {
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 1 << 20,
    chunkSizeWarningLimit: 5000,
    rolldownOptions: { output: { codeSplitting: false } },
  },
});
