// Every word that a person reads, in one place. Failures are said by their reason, never by a raw message.

import { CallFailed, Reason } from '../api/failure';
import { DeletionReason, LeftReason, Role } from '../../gen/tertulia/chats/v1/model_pb';

const listed = new Intl.ListFormat('en', { type: 'conjunction' });
const plural = (n: number, one: string, many: string) => (n === 1 ? one : many.replace('#', n.toLocaleString()));

export const words = {
  app: 'Tertulia',
  tagline: 'Good company, good talk.',
  auth: {
    signIn: 'Sign in',
    signUp: 'Create account',
    signInTitle: 'Welcome back',
    signUpTitle: 'Take a seat',
    signInLead: 'Sign in to go on talking.',
    signUpLead: 'An account takes a name and a password.',
    toSignUp: 'New here?',
    toSignIn: 'Have an account?',
    name: 'Name',
    nameHint: '2 to 32 letters, digits, dots, dashes or underscores; a letter first.',
    displayName: 'Display name',
    displayNameHint: 'What others see. You can change it later.',
    optional: 'optional',
    password: 'Password',
    passwordHint: 'At least 10 characters.',
    show: 'Show password',
    hide: 'Hide password',
    busyIn: 'Signing in…',
    busyUp: 'Creating your account…',
    ended: 'You were signed out. Your unsent messages are kept until you sign in again.',
    nameNeeded: 'Enter your name.',
    nameShort: 'A name has at least 2 characters.',
    nameLong: 'A name has at most 32 characters.',
    nameLetters: 'A name begins with a letter and has only letters a–z, digits, dots, dashes and underscores.',
    displayNameLong: 'A display name has at most 100 characters.',
    passwordNeeded: 'Enter your password.',
    passwordShort: 'A password has at least 10 characters.',
    passwordLong: 'A password has at most 256 characters.',
    nameTaken: 'This name belongs to somebody. Choose another one.',
    weakPassword: 'This password is too easy to guess. Choose another one.',
    wrong: 'The name or the password is wrong.',
  },
  live: {
    connecting: 'Connecting…',
    online: 'Connected',
    offline: 'You are offline',
    waiting: (seconds: number) => (seconds > 0 ? `Connection lost. Trying again in ${seconds} s` : 'Trying again…'),
    tooMany: 'Too many sessions are open.',
    kicked: 'The operator of this server ended the connection.',
    announcement: 'Announcements',
    dismiss: 'Dismiss',
    refused: 'The server refuses this client. Reloading the page may help.',
    tryNow: 'Try now',
    unsent: (n: number) => plural(n, '1 message waits to be sent', '# messages wait to be sent'),
    trouble: 'This browser could not store data. Free some space, then reload.',
  },
  list: {
    title: 'Chats',
    empty: 'No chats yet',
    emptyLead: 'Find a person and say hello.',
    find: 'Find a person',
    findPlaceholder: 'Find a person',
    people: 'People',
    nobody: (query: string) => `Nobody’s name begins with “${query}”.`,
    found: (n: number) => plural(n, '1 person found', '# people found'),
    more: 'There are more. Type on to narrow it down.',
    searching: 'Searching…',
    opening: 'Opening…',
    you: 'You: ',
    nothingYet: 'Nothing said yet',
    unread: (n: number) => plural(n, '1 new message', '# new messages'),
    failed: 'Not sent',
    somebody: 'Somebody',
    clear: 'Clear',
    newChat: 'New group or channel',
    archived: (n: number) => plural(n, '1 archived chat', '# archived chats'),
    back: 'Back to all chats',
    muted: 'Muted',
    favorite: 'Favourite',
    draft: 'Draft:',
    mentioned: 'You are mentioned',
    markedUnread: 'Marked as unread',
    unreadMark: 'Unread',
    typing: 'typing…',
    pick: 'Pick a chat, or find a person to talk to.',
    pickTitle: 'Whom shall we talk to?',
  },
  chat: {
    back: 'Back to the chats',
    messages: (name: string) => `Messages with ${name}`,
    begin: (name: string) => `This is the beginning of your chat with ${name}.`,
    emptyTitle: (name: string) => `Say hello to ${name}`,
    emptyLead: 'Nobody has said anything yet.',
    loading: 'Loading messages…',
    older: 'Loading older messages…',
    newOnes: 'New messages',
    newLine: 'New',
    jump: 'To the newest message',
    sending: 'Sending…',
    sent: 'Sent',
    notSent: 'Not sent.',
    retry: 'Retry',
    delete: 'Delete',
    you: 'You',
    today: 'Today',
    yesterday: 'Yesterday',
    gone: 'This chat is not here',
    goneLead: 'It may belong to another account.',
    unreadable: 'The messages could not be loaded.',
    beginGroup: (title: string) => `This is the beginning of ${title}.`,
    emptyGroup: 'Say the first word.',
    members: (n: number) => plural(n, '1 member', '# members'),
    channel: 'Channel',
    info: 'About this chat',
    leftTitle: (name: string) => `You are no longer in ${name}`,
    left: (reason: LeftReason, by: string) =>
      reason === LeftReason.LEFT
        ? 'You left this chat.'
        : reason === LeftReason.REMOVED
          ? `${by} removed you from it.`
          : reason === LeftReason.BANNED
            ? `${by} removed you, and you can not come back by an invite.`
            : 'It was closed, or you were removed.',
    readOnly: 'Only some members write here. You can read and react.',
    readOnlyGroup: 'You can read here. Ask an admin when you want to write.',
    typing: (names: string[], more: number) =>
      more > 0 ? `${listed.format([...names, plural(more, '1 other', '# others')])} are typing…` : `${listed.format(names)} ${names.length === 1 ? 'is' : 'are'} typing…`,
    pinned: 'Pinned',
    pinnedOf: (n: number, of: number) => `Pinned ${n} of ${of}`,
    unpin: 'Unpin',
    delivered: 'Delivered',
    seen: 'Seen',
    seenBy: (names: string[], more: number) => `Seen by ${listed.format(more > 0 ? [...names, plural(more, '1 other', '# others')] : names)}`,
    seenTitle: 'Seen by',
    deliveredTitle: 'Delivered to',
    seenCounts: (seen: number, delivered: number) => `Seen by ${seen.toLocaleString()}, delivered to ${delivered.toLocaleString()}`,
    nobodyYet: 'Nobody yet',
    edited: 'edited',
    editHistory: 'Earlier versions',
    forwarded: (name: string) => `Forwarded from ${name}`,
    quoteGone: 'This message was deleted',
    quoteLoading: 'Loading…',
    goTo: 'Go to this message',
    replies: (n: number) => plural(n, '1 reply', '# replies'),
    lastReply: (when: string) => `last ${when}`,
    inThread: 'in a thread',
    deletedBy: (reason: DeletionReason, by: string, own: boolean) =>
      reason === DeletionReason.MODERATOR ? `${by} removed this message` : own ? 'You deleted this message' : 'This message was deleted',
    expires: (when: string) => `Disappears ${when}`,
    actions: 'What to do with this message',
    messageOf: (name: string, when: string) => `${name}, ${when}`,
    notFound: 'This message is not here any more.',
    reactions: 'Reactions',
    reactedBy: (emoji: string, names: string[]) => `${listed.format(names)} reacted with ${emoji}`,
  },
  act: {
    reply: 'Reply',
    thread: 'Reply in thread',
    react: 'React',
    edit: 'Edit',
    copy: 'Copy text',
    copied: 'Copied.',
    forward: 'Forward',
    pin: 'Pin',
    unpin: 'Unpin',
    info: 'Who has seen it',
    hide: 'Delete for me',
    remove: 'Delete for everyone',
    removeTitle: 'Delete this message for everyone?',
    removeLead: 'Its text is gone for all members. Nobody can bring it back.',
    cancel: 'Cancel',
    delete: 'Delete',
    more: 'More',
    emojiLabel: 'Another emoji',
    emojiPlaceholder: 'Type or paste an emoji',
    emojiAdd: 'Add',
    emojiWrong: 'That is not one emoji.',
  },
  thread: {
    title: 'Thread',
    close: 'Close the thread',
    empty: 'No replies yet',
    placeholder: 'Reply in the thread',
    gone: 'This thread is not here any more.',
  },
  forward: {
    title: 'Forward to',
    find: 'Find a chat',
    send: (n: number) => (n === 0 ? 'Forward' : plural(n, 'Forward to 1 chat', 'Forward to # chats')),
    done: (n: number) => plural(n, 'Forwarded to 1 chat.', 'Forwarded to # chats.'),
    none: 'No chat has such a name.',
  },
  scheduled: {
    title: 'Scheduled messages',
    open: (n: number) => plural(n, '1 scheduled message', '# scheduled messages'),
    send: 'Send later',
    when: 'When?',
    inAnHour: 'In an hour',
    tomorrow: 'Tomorrow morning',
    monday: 'Monday morning',
    at: 'At a time of your choice',
    schedule: 'Schedule',
    done: (when: string) => `It will be sent ${when}.`,
    past: 'Choose a time that is ahead, at most a year.',
    empty: 'Nothing is scheduled.',
    cancel: 'Call off',
    cancelled: 'It will not be sent.',
  },
  create: {
    title: 'New chat',
    group: 'Group',
    groupHint: 'Everybody writes. Up to 1,000 members.',
    channel: 'Channel',
    channelHint: 'Few write, many read.',
    name: 'Name',
    nameNeeded: 'A chat needs a name.',
    nameLong: 'A name has at most 100 characters.',
    topic: 'Topic',
    topicLong: 'A topic has at most 500 characters.',
    avatar: 'Emoji',
    people: 'Members',
    peopleHint: 'You can also invite people by a link later.',
    submit: 'Create',
    busy: 'Creating…',
  },
  people: {
    add: 'Add people',
    placeholder: 'Name',
    chosen: (n: number) => plural(n, '1 person chosen', '# people chosen'),
    remove: (name: string) => `Take ${name} out`,
    none: (query: string) => `Nobody’s name begins with “${query}”.`,
  },
  info: {
    title: 'About this chat',
    titlePerson: 'About this person',
    close: 'Close',
    edit: 'Edit name and topic',
    save: 'Save',
    mute: 'Mute',
    unmute: 'Unmute',
    muteFor: 'Mute for',
    hour: 'An hour',
    day: 'A day',
    always: 'Until I turn it on again',
    mutedUntil: (when: string) => `Muted until ${when}`,
    mutedAlways: 'Muted',
    archive: 'Archive',
    markUnread: 'Mark as unread',
    markRead: 'Mark as read',
    verify: 'Check messages stored here',
    verifyHint: 'Compares them with the server, and loads again what differs.',
    verified: (compared: number, healed: number) =>
      healed > 0 ? plural(healed, '1 message or event was loaded again.', '# messages and events were loaded again.')
      : compared > 0 ? 'Everything here is as the server has it.' : 'Nothing could be compared now.',
    ttl: 'Disappearing messages',
    ttlHint: 'Counts for messages that are sent from now on.',
    ttlOff: 'Off',
    ttls: (seconds: number) => ttlWords(seconds),
    members: (n: number) => plural(n, '1 member', '# members'),
    filter: 'Find a member',
    add: 'Add people',
    memberActions: (name: string) => `What to do with ${name}`,
    you: 'you',
    message: 'Send a message',
    remove: 'Remove from the chat',
    ban: 'Remove and ban',
    unban: 'Lift the ban',
    banned: (n: number) => plural(n, '1 banned', '# banned'),
    makeOwner: 'Make owner',
    makeOwnerTitle: (name: string) => `Make ${name} the owner?`,
    makeOwnerLead: 'You will be an admin then. Only the new owner can give ownership back.',
    removeTitle: (name: string) => `Remove ${name}?`,
    removeLead: 'They lose the chat on all their devices. They can come back by an invite.',
    banTitle: (name: string) => `Remove and ban ${name}?`,
    banLead: 'They lose the chat and can not come back until the ban is lifted.',
    role: (role: Role) => roleWords(role),
    makeRole: (role: Role) => `Make ${roleWords(role).toLowerCase()}`,
    invites: 'Invite links',
    invitesHint: 'Whoever has a link can come in.',
    newInvite: 'New link',
    validFor: 'Valid for',
    ever: 'Ever',
    days: (n: number) => plural(n, '1 day', '# days'),
    usesMax: 'For how many people',
    anyNumber: 'Any number',
    makeInvite: 'Make the link',
    copy: 'Copy link',
    copied: 'The link is copied.',
    revoke: 'End',
    revokeNamed: (code: string) => `End the link ${code}`,
    inviteUses: (uses: number, max: number) => (max > 0 ? `${uses} of ${max} used` : plural(uses, 'used once', 'used # times')),
    inviteUntil: (when: string) => `until ${when}`,
    noInvites: 'There is no link yet.',
    leave: 'Leave',
    leaveTitle: (name: string) => `Leave ${name}?`,
    leaveLead: 'You lose its messages on all your devices.',
    ownerMustStay: 'Give ownership to somebody first; you are the owner.',
    more: (n: number) => plural(n, 'Show 1 more', 'Show # more'),
  },
  join: {
    title: 'You are invited',
    join: 'Join',
    joining: 'Joining…',
    open: 'Open',
    already: 'You are in it already.',
    gone: 'This invite does not work',
    goneLead: 'It has ended, or somebody revoked it. Ask for a new one.',
    banned: 'You were removed from this chat and can not come back by an invite.',
    back: 'To my chats',
  },
  event: {
    created: (who: string, title: string) => `${who} made “${title}”`,
    title: (who: string, title: string) => `${who} changed the name to “${title}”`,
    topic: (who: string, topic: string) => (topic ? `${who} changed the topic to “${topic}”` : `${who} removed the topic`),
    avatar: (who: string, emoji: string) => (emoji ? `${who} chose ${emoji} for the chat` : `${who} removed the chat’s emoji`),
    ttl: (who: string, seconds: number) => (seconds > 0 ? `${who} made messages disappear after ${ttlWords(seconds).toLowerCase()}` : `${who} turned disappearing messages off`),
    several: (who: string) => `${who} changed the chat`,
    added: (who: string, whom: string[], more: number) => `${who} added ${listed.format(more > 0 ? [...whom, plural(more, '1 other', '# others')] : whom)}`,
    joined: (who: string, by: string) => (by ? `${who} joined by an invite of ${by}` : `${who} joined by an invite`),
    left: (who: string) => `${who} left`,
    removed: (who: string, whom: string) => `${who} removed ${whom}`,
    banned: (who: string, whom: string) => `${who} removed and banned ${whom}`,
    unbanned: (who: string, whom: string) => `${who} lifted the ban on ${whom}`,
    role: (who: string, whom: string, role: Role) => (role === Role.OWNER ? `${who} made ${whom} the owner` : `${who} made ${whom} ${role === Role.ADMIN ? 'an' : 'a'} ${roleWords(role).toLowerCase()}`),
    pinned: (who: string) => `${who} pinned a message`,
    server: 'The server',
    you: 'You',
    youObject: 'you',
  },
  composer: {
    label: (name: string) => `Message to ${name}`,
    placeholder: 'Write a message',
    send: 'Send',
    replyTo: (name: string) => `Reply to ${name}`,
    editing: 'Edit message',
    stop: 'Stop',
    save: 'Save',
    later: 'Send later',
    mention: 'People to mention',
    everyone: 'Everybody in this chat',
    admins: 'The admins and the owner',
    hint: 'Markdown works: **bold**, *italic*, `code`',
    left: (n: number) => (n >= 0 ? plural(n, '1 character left', '# characters left') : `${(-n).toLocaleString()} too many`),
  },
  presence: {
    online: 'online',
    away: 'away',
    offline: 'offline',
    justNow: 'last seen just now',
    minutesAgo: (n: number) => plural(n, 'last seen 1 minute ago', 'last seen # minutes ago'),
    hoursAgo: (n: number) => plural(n, 'last seen 1 hour ago', 'last seen # hours ago'),
    daysAgo: (n: number) => plural(n, 'last seen 1 day ago', 'last seen # days ago'),
  },
  profile: {
    open: 'Your profile and settings',
    title: 'Your profile',
    displayName: 'Display name',
    displayNameNeeded: 'Enter a display name.',
    about: 'About you',
    aboutHint: 'A few words that others see.',
    aboutLong: 'At most 500 characters.',
    save: 'Save',
    saved: 'Saved',
    privacy: 'Privacy',
    shareSeen: 'Let others know what I have seen',
    shareSeenHint: 'Off: they see that a message was delivered, not that you read it. What they know already stays known.',
    sharePresence: 'Let others know whether I am here',
    sharePresenceHint: 'People you share a chat with see whether you are online and when you last were. Off: nobody sees it, and you do not see it of others.',
    appearance: 'Appearance',
    auto: 'System',
    light: 'Light',
    dark: 'Dark',
    logins: 'Where you are signed in',
    thisOne: 'this one',
    since: (when: string) => `since ${when}`,
    active: (when: string) => `last used ${when}`,
    end: 'End',
    endNamed: (name: string) => `End the login ${name}`,
    signOut: 'Sign out',
    signOutUnsent: (n: number) =>
      `${plural(n, '1 message has', '# messages have')} not been sent and will be lost. Sign out all the same?`,
    stay: 'Stay',
    close: 'Close',
  },
  theme: { toDark: 'Switch to dark', toLight: 'Switch to light' },
  tryAgain: 'Try again',
  request: 'request',
  brokenTitle: 'Tertulia can not store anything in this browser',
  broken: 'It keeps your messages in the browser, which refuses. Allow this site to store data, then reload.',
  reload: 'Reload',
};

export function roleWords(role: Role): string {
  switch (role) {
    case Role.OWNER:
      return 'Owner';
    case Role.ADMIN:
      return 'Admin';
    case Role.READER:
      return 'Reader';
    default:
      return 'Member';
  }
}

function ttlWords(seconds: number): string {
  if (seconds === 0) return 'Off';
  for (const [unit, one, many] of [[604_800, 'A week', '# weeks'], [86_400, 'A day', '# days'], [3600, 'An hour', '# hours'], [60, 'A minute', '# minutes']] as const) {
    if (seconds % unit === 0) return plural(seconds / unit, one, many);
  }
  return plural(seconds, 'A second', '# seconds');
}

/** What a failure means for the person. */
export function failureWords(failure: CallFailed): string {
  const seconds = Math.ceil(failure.retryAfterMs / 1000);
  const wait = seconds > 1 ? `Try again in ${seconds} seconds.` : 'Try again in a moment.';
  switch (failure.reason) {
    case Reason.WRONG_CREDENTIALS:
      return words.auth.wrong;
    case Reason.NAME_TAKEN:
      return words.auth.nameTaken;
    case Reason.WEAK_PASSWORD:
      return words.auth.weakPassword;
    case Reason.INVALID_REQUEST:
      return 'Something that you entered is not accepted.';
    case Reason.TOO_LARGE:
      return 'This is too long.';
    case Reason.NOT_ALLOWED:
      return 'You are not allowed to do this.';
    case Reason.USER_NOT_FOUND:
      return 'This person is not here any more.';
    case Reason.CHAT_NOT_FOUND:
      return 'This chat is not here any more.';
    case Reason.CHAT_WITH_SELF:
      return 'A chat needs somebody else.';
    case Reason.MESSAGE_NOT_FOUND:
      return 'This message is not here any more.';
    case Reason.NOT_YOUR_MESSAGE:
      return 'Only its sender can change a message.';
    case Reason.TOO_MANY:
      return 'There are too many already. Remove something first.';
    case Reason.INVITE_NOT_FOUND:
      return words.join.goneLead;
    case Reason.BANNED:
      return words.join.banned;
    case Reason.NOT_A_MEMBER:
      return 'This person is not in the chat any more.';
    case Reason.DIRECT_CHAT:
      return 'This works in groups and channels only.';
    case Reason.OWNER_MUST_STAY:
      return words.info.ownerMustStay;
    case Reason.SCHEDULED_NOT_FOUND:
      return 'This message was sent already, or called off.';
    case Reason.BAD_TIME:
      return words.scheduled.past;
    case Reason.TOO_MANY_REQUESTS:
      return `That was a lot at once. ${wait}`;
    case Reason.OVERLOADED:
    case Reason.DRAINING:
    case Reason.STORE_UNAVAILABLE:
      return `The server is busy. ${wait}`;
    case Reason.NOT_SIGNED_IN:
    case Reason.BAD_TOKEN:
    case Reason.TOKEN_EXPIRED:
    case Reason.LOGIN_ENDED:
    case Reason.BAD_REFRESH_TOKEN:
    case Reason.REFRESH_TOKEN_REUSED:
      return 'You are signed out. Sign in again.';
  }
  if (failure.code === 'no_connection') return 'The server can not be reached. Check your connection and try again.';
  if (failure.retryable) return 'That took too long. Try again.';
  const quote = failure.requestId ? ` Quote ${failure.requestId} when you ask for help.` : '';
  return `Something went wrong on the server.${quote}`;
}

/** Why a message was refused. */
export function refusalWords(reason: number | undefined): string {
  return reason === undefined ? '' : failureWords(new CallFailed('unknown', '', reason));
}
