/* The paywall: finds the visitor's wallets, has one sign, and sends what was signed to this very
   page until it is known what became of it. Talks to the wallet and to this site, to nobody else.
   A payment is written to sessionStorage before it is sent, and only an answer that rules out that
   it was charged, or will be, removes it: however often the page is reloaded, nobody signs twice. */
(() => {
  "use strict";
  const $ = (id) => document.getElementById(`x402-${id}`);
  const page = JSON.parse($("data").textContent);
  // Payments are valid by the site's clock, whatever this computer's says.
  const clockSkew = page.now - Date.now() / 1000;
  const storageKey = `x402:${location.pathname}${location.search}`;
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  // ------------------------------------------------------------------------- what is shown

  const message = (key, values = {}) => {
    const entry = $("messages").querySelector(`[data-key="${CSS.escape(key)}"]`);
    return entry && entry.textContent.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  };

  let timer;

  function show(part) {
    for (const id of ["choose", "retry", "progress"]) $(id).hidden = id !== part;
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
    const button = $(part).querySelector("button, a");
    if (button) button.focus();
  }

  // ------------------------------------------------------------------------- what is kept

  const recall = () => JSON.parse(sessionStorage.getItem(storageKey));
  const remember = (payment) => sessionStorage.setItem(storageKey, JSON.stringify(payment));
  const forget = () => sessionStorage.removeItem(storageKey);

  function canKeep() {
    try {
      sessionStorage.setItem("x402", "");
      sessionStorage.removeItem("x402");
      return navigator.cookieEnabled;
    } catch {
      return false; // the browser forbids it
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

  async function checkFunds(wallet, account, offer) {
    progress("balance");
    const data = "0x70a08231" + account.slice(2).toLowerCase().padStart(64, "0"); // balanceOf
    let answer;
    try {
      answer = await wallet.request({
        method: "eth_call",
        params: [{ to: offer.accepted.asset, data }, "latest"],
      });
    } catch {
      return; // the wallet cannot look; the site does, before it takes anything
    }
    if (!/^0x[0-9a-f]+$/i.test(answer) || BigInt(answer) >= BigInt(offer.accepted.amount)) return;
    throw new Problem("e_funds", {
      account: `${account.slice(0, 6)}…${account.slice(-4)}`,
      balance: inTokens(BigInt(answer), offer),
      network: offer.chain.chainName,
      amount: offer.amount,
    });
  }

  function base64(document) {
    const bytes = new TextEncoder().encode(JSON.stringify(document));
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  }

  function randomHex(length) {
    const random = crypto.getRandomValues(new Uint8Array(length));
    return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  /** Have the wallet sign an EIP-3009 authorization for `offer`; the header that pays with it. */
  async function sign(wallet, account, { accepted, chain, amount }) {
    progress("sign", { amount });
    const now = Math.floor(Date.now() / 1000 + clockSkew);
    const authorization = {
      from: account,
      to: accepted.payTo,
      value: accepted.amount,
      validAfter: String(now - 600),
      validBefore: String(now + accepted.maxTimeoutSeconds),
      nonce: "0x" + randomHex(32),
    };
    const fields = (text) =>
      text.split(", ").map((field) => ({ type: field.split(" ")[0], name: field.split(" ")[1] }));
    const typed = {
      types: {
        EIP712Domain: fields(
          "string name, string version, uint256 chainId, address verifyingContract",
        ),
        TransferWithAuthorization: fields(
          "address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, " +
            "bytes32 nonce",
        ),
      },
      primaryType: "TransferWithAuthorization",
      domain: {
        name: accepted.extra.name,
        version: accepted.extra.version,
        chainId: Number(chain.chainId),
        verifyingContract: accepted.asset,
      },
      message: authorization,
    };
    const signature = await wallet.request({
      method: "eth_signTypedData_v4",
      params: [account, JSON.stringify(typed)],
    });
    return base64({
      x402Version: 2,
      accepted,
      payload: { signature, authorization },
      extensions: { "payment-identifier": { info: { id: randomHex(16) } } },
    });
  }

  async function pay(wallet) {
    const checked = document.querySelector("input[name=offer]:checked");
    const offer = page.offers[checked ? checked.value : 0];
    let payment;
    try {
      if (!canKeep()) throw new Problem("e_storage");
      progress("connect");
      const [account] = await wallet.request({ method: "eth_requestAccounts" });
      if (!account) throw new Problem("e_account");
      await useNetwork(wallet, offer.chain);
      await checkFunds(wallet, account, offer);
      payment = { header: await sign(wallet, account, offer), amount: offer.amount };
      remember(payment);
    } catch (error) {
      fail(explain(error));
      return;
    }
    progress("send", payment);
    await settle(payment);
  }

  // ------------------------------------------------------------------------- settlement

  const unreadable = ["invalid_payload", "invalid_x402_version", "payment_header_too_large"];

  /** Present `payment` until its outcome is certain. Never asks the wallet for anything. */
  async function settle(payment) {
    countSeconds();
    for (let lost = 0; ; ) {
      let response;
      let answer;
      try {
        response = await fetch(location.href, {
          headers: {
            "PAYMENT-SIGNATURE": payment.header,
            "X-402-Paywall": "1",
            Accept: "text/html,application/xhtml+xml,*/*;q=0.8", // the page is made for a browser
          },
          cache: "no-store",
          redirect: "manual",
        });
        const isJson = response.headers.get("Content-Type")?.includes("json");
        answer = isJson ? await response.json() : {};
      } catch {
        progress("lost");
        await pause(Math.min(2 ** lost++, 15));
        continue;
      }
      lost = 0;
      const { status } = response;
      if (status === 200 && "receipt" in answer) return open(payment, answer);
      if (status === 402 || (status === 400 && unreadable.includes(answer.error))) {
        return refused(payment, answer, response);
      }
      const retryAfter = Number(response.headers.get("Retry-After"));
      if (!(retryAfter && (status === 409 || status === 503))) {
        // The page's own trouble, or somebody's in between: the payment may be used or not.
        return fail(message("e_page", { status: status || response.type }), "retry");
      }
      progress(answer.error === "payment_service_unavailable" ? "busy" : "settling");
      await pause(Math.max(retryAfter, 1));
    }
  }

  function refused(payment, answer, response) {
    forget();
    if (payment.opened) return ready(); // an old one, that was looked at to be sure
    const failed = response.headers.has("PAYMENT-RESPONSE") && "e_failed";
    const code = answer.error ?? "";
    fail(message(failed || code) ?? message("e_declined", { code }));
  }

  async function open(payment, { receipt }) {
    if (payment.opened && Date.now() - payment.opened < 60_000) {
      payment.opened = 0; // "try again" is one
      remember(payment);
      return fail(message("e_not_opened"), "retry");
    }
    remember({ ...payment, opened: Date.now() });
    progress("done");
    clearInterval(timer);
    $("progress").classList.add("paid");
    if (receipt) {
      $("receipt").href = receipt;
      $("receipt").hidden = $("links").hidden = false;
    }
    await pause(1);
    location.reload();
  }

  // ------------------------------------------------------------------------- the beginning

  const wallets = new Map();

  function addWallet({ info, provider }) {
    if (!info || !provider || wallets.has(info.uuid)) return;
    wallets.set(info.uuid, provider);
    const button = $("wallet").content.cloneNode(true).querySelector("button");
    button.querySelector("span").textContent = message("pay_with", { wallet: info.name });
    const icon = button.querySelector("img");
    if (/^data:image\//.test(info.icon)) {
      icon.src = info.icon;
      icon.hidden = false;
    }
    button.addEventListener("click", () => pay(provider));
    $("wallets").append(button);
    $("no-wallet").hidden = true;
    $("phone").open = false;
  }

  function ready() {
    show("choose");
    $("error").textContent = "";
  }

  function findWallets() {
    addEventListener("eip6963:announceProvider", (event) => addWallet(event.detail));
    dispatchEvent(new Event("eip6963:requestProvider"));
    setTimeout(() => {
      if (!wallets.size && window.ethereum) {
        const info = { uuid: "window.ethereum", name: message("browser_wallet") };
        addWallet({ info, provider: window.ethereum });
      }
      if (!wallets.size) $("no-wallet").hidden = false;
    }, 300);
  }

  $("fallback").hidden = true;
  $("pay").hidden = false;
  $("retry").querySelector("button").addEventListener("click", () => {
    progress("resume");
    settle(recall());
  });
  findWallets();
  if (!canKeep()) {
    fail(message("e_storage"));
  } else if (recall()) {
    progress("resume");
    settle(recall());
  }
})();
