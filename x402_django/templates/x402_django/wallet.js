/* What the paywall and the pay page share: the visitor's wallets, and what the page shows. Talks
   to the wallet and to this site, to nobody else. Elements are found by ids that begin with "x402-"; of those that are marked
   data-part one is shown at a time. */
const X402 = (() => {
  "use strict";
  const $ = (id) => document.getElementById(`x402-${id}`);
  const page = JSON.parse($("data").textContent);
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  // ------------------------------------------------------------------------- what is shown

  const message = (key, values = {}) => {
    const entry = $("messages").querySelector(`[data-key="${CSS.escape(key)}"]`);
    return entry && entry.textContent.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  };

  let timer;

  function show(part) {
    for (const one of document.querySelectorAll("[data-part]")) {
      one.hidden = one.id !== `x402-${part}`;
    }
    clearInterval(timer);
    $("elapsed").textContent = "";
  }

  function progress(key, values) {
    const started = $("progress").hidden;
    if (started) {
      show("progress");
      $("error").textContent = "";
    }
    const text = message(key, values);
    if ($("status").textContent !== text) $("status").textContent = text;
    if (started) $("status").focus();
  }

  /** Show for how long the visitor has been waiting. */
  function countSeconds() {
    const since = Date.now();
    clearInterval(timer);
    timer = setInterval(() => {
      const seconds = Math.round((Date.now() - since) / 1000);
      if (seconds >= 5) $("elapsed").textContent = message("seconds", { seconds });
    }, 1000);
  }

  function fail(text, part = "choose") {
    show(part);
    $("status").textContent = "";
    $("error").textContent = text;
    const button = $(part).querySelector("input, button, a");
    if (button) button.focus();
  }

  // ------------------------------------------------------------------------- the site

  /** Ask for `url` with `headers`, as often as the answer gets lost. */
  async function ask(url, headers) {
    for (let lost = 0; ; lost++) {
      try {
        const response = await fetch(url, {
          headers: {
            ...headers,
            "X-402-Paywall": "1",
            Accept: "text/html,application/xhtml+xml,*/*;q=0.8", // the page is made for a browser
          },
          cache: "no-store",
          redirect: "manual",
        });
        const isJson = response.headers.get("Content-Type")?.includes("json");
        return { response, answer: isJson ? await response.json() : {} };
      } catch {
        progress("lost");
        await pause(Math.min(2 ** lost, 15));
      }
    }
  }

  /** The page is paid: say so, with the receipt. */
  function paid(receipt) {
    progress("done");
    clearInterval(timer);
    $("progress").classList.add("paid");
    if (receipt) {
      $("receipt").href = receipt;
      $("receipt").hidden = $("links").hidden = false;
    }
  }

  // ------------------------------------------------------------------------- the wallet

  class Problem extends Error {
    constructor(key, values) {
      super(message(key, values));
    }
  }

  const codeOf = (error) => error?.data?.originalError?.code ?? error?.code;

  function explain(error) {
    if (error instanceof Problem) return error.message;
    const code = codeOf(error);
    if (code === 4001) return message("e_refused");
    if (code === -32002) return message("e_pending");
    return message("e_wallet", { detail: String(error?.message ?? error).slice(0, 200) });
  }

  async function useNetwork(wallet, chain) {
    const isRight = async () =>
      BigInt(await wallet.request({ method: "eth_chainId" })) === BigInt(chain.chainId);
    const change = () =>
      wallet.request({
        method: "wallet_switchEthereumChain",
        params: [{ chainId: chain.chainId }],
      });
    const names = { network: chain.chainName, chain: BigInt(chain.chainId) };
    if (await isRight()) return;
    progress("network", names);
    try {
      await change();
    } catch (error) {
      const code = codeOf(error);
      if (code === 4001) throw new Problem("e_network", names);
      if (code !== 4902 && code !== -32603) throw error;
      if (!chain.rpcUrls.length) throw new Problem("e_unknown_network", names);
      await wallet.request({ method: "wallet_addEthereumChain", params: [chain] });
      if (!(await isRight())) await change();
    }
    if (!(await isRight())) throw new Problem("e_network", names);
  }

  function inTokens(amount, { decimals, symbol }) {
    const digits = amount.toString().padStart(decimals + 1, "0");
    const fraction = digits.slice(digits.length - decimals).replace(/0+$/, "").padEnd(2, "0");
    return `${digits.slice(0, digits.length - decimals)}.${fraction} ${symbol}`;
  }

  /** Throw a Problem where `account` surely has less than `amount` units of `asset`. */
  async function checkFunds(wallet, account, offer, { asset, amount }) {
    progress("balance");
    const data = "0x70a08231" + account.slice(2).toLowerCase().padStart(64, "0"); // balanceOf
    let answer;
    try {
      answer = await wallet.request({
        method: "eth_call",
        params: [{ to: asset, data }, "latest"],
      });
    } catch {
      return; // the wallet cannot look; the site does, before it takes anything
    }
    if (!/^0x[0-9a-f]+$/i.test(answer) || BigInt(answer) >= BigInt(amount)) return;
    throw new Problem("e_funds", {
      account: `${account.slice(0, 6)}…${account.slice(-4)}`,
      balance: inTokens(BigInt(answer), offer),
      network: offer.chain.chainName,
      amount: offer.amount,
    });
  }

  const wallets = new Map();

  /** Find wallets (EIP-6963, or else window.ethereum); `add(info, provider)` for each. */
  function findWallets(add) {
    const announced = ({ info, provider }) => {
      if (!info || !provider || wallets.has(info.uuid)) return;
      wallets.set(info.uuid, provider);
      add(info, provider);
      $("no-wallet").hidden = true;
      $("phone").open = false;
    };
    addEventListener("eip6963:announceProvider", (event) => announced(event.detail));
    dispatchEvent(new Event("eip6963:requestProvider"));
    setTimeout(() => {
      if (!wallets.size && window.ethereum) {
        const info = { uuid: "window.ethereum", name: message("browser_wallet") };
        announced({ info, provider: window.ethereum });
      }
      if (!wallets.size) $("no-wallet").hidden = false;
    }, 300);
  }

  /** A button for a wallet in the element `where`, with its icon. */
  function addButton(where, text, info, action) {
    const button = $("wallet").content.cloneNode(true).querySelector("button");
    button.querySelector("span").textContent = message(text, { wallet: info.name });
    const icon = button.querySelector("img");
    if (/^data:image\//.test(info.icon)) {
      icon.src = info.icon;
      icon.hidden = false;
    }
    button.addEventListener("click", action);
    $(where).append(button);
  }

  /** Show the part of the page that needs this script, instead of what stands in for it. */
  function start() {
    $("fallback").hidden = true;
    $("pay").hidden = false;
  }

  return {
    $, page, pause, message, show, progress, countSeconds, fail, Problem, codeOf, explain,
    ask, paid, useNetwork, checkFunds, findWallets, addButton, start,
  };
})();
