// The checks of scripts/page-check. Arguments: folders that `orch page` wrote; `--picture FILE` first: one picture instead.
const fs = require("fs"), path = require("path");
const puppeteer = require("puppeteer-core"), axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const faults = [];
const fault = (where, what) => { faults.push(`${where}: ${what}`); console.log(`✗ ${where}: ${what}`) };

async function open(browser, file, setup) {
  const page = await browser.newPage();
  page.on("console", m => { if (/Content Security Policy|Refused/.test(m.text())) fault(file, m.text()) });
  page.on("pageerror", e => fault(file, `the script failed: ${e.message}`));
  page.on("request", r => { if (!/^(file|data|about):/.test(r.url())) fault(file, `asks for ${r.url()}`) });
  if (setup) await setup(page);
  const began = Date.now();
  await page.goto("file://" + file, { waitUntil: "load", timeout: 60000 });
  console.log(`  ${path.basename(file)}: ${fs.statSync(file).size} bytes, ${Date.now() - began} ms`);
  return page;
}

async function looks(browser, file) {
  for (const scheme of ["light", "dark"]) {
    const page = await open(browser, file, p => p.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]));
    for (const width of [360, 768, 1280, 2560]) {
      await page.setViewport({ width, height: 900 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) fault(file, `${wide} px wide in ${width}`);
    }
    // The page's own policy forbids other scripts; the browser's tools are not under it.
    const session = await page.createCDPSession();
    await session.send("Runtime.evaluate", { expression: axe });
    const found = await session.send("Runtime.evaluate", {
      expression: "axe.run(document,{resultTypes:['violations']}).then(r=>JSON.stringify(r.violations.map(v=>[v.impact,v.id,v.nodes.length,v.nodes[0].html.slice(0,160)])))",
      awaitPromise: true, returnByValue: true });
    if (!found.result.value) fault(file, `axe-core did not run: ${JSON.stringify(found).slice(0, 300)}`);
    for (const [impact, id, nodes, html] of JSON.parse(found.result.value || "[]")) {
      const text = `${scheme}: axe ${impact} ${id} (${nodes}): ${html}`;
      if (impact === "serious" || impact === "critical") fault(file, text); else console.log(`  note ${text}`);
    }
    await page.close();
  }
}

async function clicks(browser, dir) {
  const file = path.join(dir, "index.html"), page = await open(browser, file);
  const keys = await page.$$eval("article[data-key]", all => all.map(a => a.dataset.key));
  if (!await page.$("section#needs-you") || !(await page.$$("section[data-stage]")).length) fault(file, "a hook is missing");
  if (keys.length) {
    const shown = () => page.$$eval("article[data-key]", all => all.filter(a => a.checkVisibility()).map(a => a.dataset.key));
    await page.keyboard.press("/");
    await page.keyboard.type(keys[0]);
    const left = await shown();
    if (!left.includes(keys[0]) || left.some(k => !k.includes(keys[0])) ) fault(file, `search for ${keys[0]} shows ${left.slice(0, 5)}`);
    await page.reload();
    if (await page.$eval("input[type=search]", i => i.value) !== keys[0]) fault(file, "a reload forgets the search");
    await page.$eval("input[type=search]", i => { i.value = ""; i.dispatchEvent(new Event("input")) });
    await Promise.all([page.waitForNavigation(), page.click(`article[data-key="${left[0]}"] a`)]);
    if (!(await page.title()).startsWith(left[0])) fault(file, `the link of ${left[0]} leads to ${await page.title()}`);
    await Promise.all([page.waitForNavigation(), page.click("nav a")]);
    if (await page.title() !== "orch") fault(file, "no way back to the board");
  }
  await page.close();
  // Everything is readable without a script.
  const plain = await open(browser, file, p => p.setJavaScriptEnabled(false));
  const text = await plain.$eval("main", m => m.innerText);
  for (const key of keys.slice(0, 50)) if (!text.includes(key)) fault(file, `${key} is not readable without a script`);
  await plain.close();
}

(async () => {
  const chromium = require("@sparticuz/chromium").default || require("@sparticuz/chromium");
  let browser;
  try {
    browser = await puppeteer.launch({ executablePath: await chromium.executablePath(), headless: "shell",
      // The package's own arguments put everything into one process, which can lock itself up; root needs no-sandbox.
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--allow-file-access-from-files"] });
  } catch (e) {
    console.error(`page-check: the browser does not start (libnss3 is needed): ${e.message}`);
    process.exit(3);
  }
  const [first, file] = process.argv.slice(2);
  try {
    if (first === "--picture") {
      const page = await open(browser, path.join(path.resolve(process.argv[4]), "index.html"),
        p => p.setViewport({ width: 1000, height: 560 }));
      await page.screenshot({ path: file });
    } else for (const given of process.argv.slice(2)) {
      const dir = path.resolve(given), tasks = fs.readdirSync(path.join(dir, "task")).filter(n => n.endsWith(".html"));
      console.log(`${dir}: ${tasks.length} tasks`);
      await clicks(browser, dir);
      const files = ["index.html", "report.html", ...fs.readdirSync(dir).filter(n => n.startsWith("ended-")).slice(0, 1), ...tasks.slice(0, 2).map(n => "task/" + n)];
      for (const name of files) await looks(browser, path.join(dir, name));
    }
  } finally {
    // A browser that does not answer is ended, so that nothing waits for it.
    await Promise.race([browser.close(), new Promise(r => setTimeout(r, 10000))]).catch(() => {});
    browser.process()?.kill("SIGKILL");
  }
  console.log(faults.length ? `${faults.length} found` : "nothing found");
  process.exit(faults.length ? 1 : 0);
})().catch(e => { console.error(e); process.exit(3) });
